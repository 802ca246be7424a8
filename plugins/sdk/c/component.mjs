// Makes a component of a core module: node component.mjs CORE OUT. The tool is found from the folder in which it is called.
import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const tool = createRequire(pathToFileURL(`${process.cwd()}/`)).resolve("@bytecodealliance/jco-transpile/wasm-tools");
const { componentNew } = await import(pathToFileURL(tool));
const [core, out] = process.argv.slice(2);
await writeFile(out, await componentNew(await readFile(core)));
