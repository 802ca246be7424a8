#!/usr/bin/env python3
"""Writes what wit-bindgen makes of hooks.wit into the SDKs of Rust and C, so that no guest needs it: generate.py PATH-OF-WIT-BINDGEN

Its output is committed and changes only with a new generation of the interface. The version used last stands at the head of each file.
`cargo install wit-bindgen-cli --no-default-features --features c,rust` has the tool.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

SDK = pathlib.Path(__file__).resolve().parent
WIT = SDK.parent / "wit" / "since-v0.1.0" / "hooks.wit"
INTERFACES = ["describe", "prompt", "answer", "stream"]


def bindgen(tool, language, wit, world, out, *options):
    subprocess.run(
        [tool, language, wit, "--world", world, "--out-dir", out, *options],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def rust(tool, folder):
    """One set of types for all interfaces; for each exported interface the section that tells the linker of it.

    A hook exports some of the interfaces, a world all of its own: so each interface has a world here, and the linker joins their sections.
    """
    options = ["--pub-export-macro", "--default-bindings-module", "souk_hook::bindings", "-d", "PartialEq"]
    bindgen(tool, "rust", WIT, "full-hook", folder / "rust", *options)
    text = (folder / "rust" / "full_hook.rs").read_text()
    # The macro that exports all interfaces at once goes; what describes the imports stays.
    start = text.index("/// the root implementation of all generated traits.")
    end = text.index("pub use __export_full_hook_impl as export;\n") + len("pub use __export_full_hook_impl as export;\n")
    while text[:start].rstrip().endswith("#[doc(inline)]"):
        start = text[:start].rstrip().rfind("#[doc(inline)]")
    body = text[:start] + text[end:]
    (SDK / "rust" / "src" / "bindings.rs").write_text(re.sub(r"[ \t]+\n", "\n", body))

    sections = [f"{text.splitlines()[0]}\n//! What tells the linker which interfaces a hook exports.\n"]
    for interface in INTERFACES:
        wit = folder / f"only-{interface}"
        wit.mkdir()
        escaped = "%" + interface
        (wit / "hooks.wit").write_text(
            WIT.read_text() + f"\nworld only-{interface} {{\n    export {escaped};\n}}\n"
        )
        bindgen(tool, "rust", wit, f"only-{interface}", folder / interface, "--pub-export-macro")
        text = (folder / interface / f"only_{interface}.rs").read_text()
        section = re.search(
            r'#\[unsafe\(link_section = "(component-type:[^"]*:imports and exports)"\)\].*?'
            r'__WIT_BINDGEN_COMPONENT_TYPE: \[u8; (\d+)\] = \*b"(.*?)";',
            text,
            re.S,
        )
        name, length, content = section.groups()
        sections.append(
            f"/// Of `{interface}`.\n#[doc(hidden)]\n#[macro_export]\nmacro_rules! __{interface}_section {{\n    () => {{\n"
            f"        const _: () = {{\n            #[cfg(target_arch = \"wasm32\")]\n"
            f"            #[unsafe(link_section = \"{name}\")]\n            #[allow(clippy::octal_escapes)]\n"
            f"            pub static SECTION: [u8; {length}] = *b\"{content}\";\n        }};\n    }};\n}}\n"
        )
    (SDK / "rust" / "src" / "sections.rs").write_text("\n".join(sections))


def c(tool, folder):
    """The world of each kind of hook, for C has no way to export some of one."""
    for world in ["prompt-hook", "answer-hook", "full-hook"]:
        out = SDK / "c" / "bindings" / world
        out.mkdir(parents=True, exist_ok=True)
        bindgen(tool, "c", WIT, world, out)


def main():
    tool = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        rust(tool, pathlib.Path(folder))
        c(tool, pathlib.Path(folder))


main()
