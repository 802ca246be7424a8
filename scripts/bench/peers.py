"""Other servers on the same machine, model file and number of threads: llama.cpp and mistral.rs.

llama.cpp is built from the source that the package llama-cpp-python carries, mistral.rs comes as a package. Both live in a
virtual environment of their own in the cache folder.
"""

import json
import os
import re
import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path

import random_adapters
from server import Server

LLAMA_CPP_PYTHON, MISTRALRS = "0.3.36", "0.9.5"
BUILD_TOOLS = ["scikit-build-core", "cmake", "ninja", "pathspec", "pyproject-metadata"]


class Peers:
    """The peers' programs, installed below `folder`."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.python = self.folder / "venv/bin/python"
        self.programs = self.folder / "llama-build/bin"

    def install(self):
        """Fetches and builds what is missing; several minutes the first time."""
        if not (self.folder / ".ready").exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            subprocess.run([sys.executable, "-m", "venv", self.folder / "venv"], check=True)
            self.pip("install", "--quiet", *BUILD_TOOLS, "gguf", f"mistralrs=={MISTRALRS}")
            # The build tools are there already, so that pip need not set up an environment of its own for the metadata.
            self.pip("download", "--quiet", "--no-deps", "--no-build-isolation", "--no-binary", ":all:",
                     "--dest", self.folder, f"llama-cpp-python=={LLAMA_CPP_PYTHON}")
            self.build_llama_cpp()
            (self.folder / ".ready").touch()

    def pip(self, *arguments):
        subprocess.run([self.python, "-m", "pip", *arguments], check=True)

    def build_llama_cpp(self):
        archive = next(self.folder.glob("llama_cpp_python-*.tar.gz"))
        with tarfile.open(archive) as source:
            source.extractall(self.folder, filter="data")
        source = self.folder / archive.name.removesuffix(".tar.gz") / "vendor/llama.cpp"
        environment = os.environ | {"PATH": f"{self.python.parent}:{os.environ['PATH']}"}
        flags = ["CMAKE_BUILD_TYPE=Release", "GGML_NATIVE=ON", "BUILD_SHARED_LIBS=OFF", "LLAMA_CURL=OFF",
                 "LLAMA_OPENSSL=OFF", "LLAMA_BUILD_TESTS=OFF", "LLAMA_BUILD_EXAMPLES=OFF"]
        subprocess.run(["cmake", "-G", "Ninja", "-S", source, "-B", self.folder / "llama-build",
                        *(f"-D{flag}" for flag in flags)], check=True, env=environment, stdout=subprocess.DEVNULL)
        subprocess.run(["ninja", "-C", self.folder / "llama-build", "llama-batched-bench", "llama-server"],
                       check=True, env=environment, stdout=subprocess.DEVNULL)

    def llama_engine(self, model, threads, repetitions=3):
        """llama-batched-bench: best of several runs, in tokens per second, with the command line."""
        command = ["llama-batched-bench", "-m", str(model), "-c", "16384", "-b", "2048", "-ub", "512",
                   "-t", str(threads), "-tb", str(threads), "-npp", "512", "-ntg", "64", "-npl", "1,4,16"]
        figures = {}
        for _ in range(repetitions):
            lines = subprocess.run([self.programs / command[0], *command[1:]], check=True, capture_output=True,
                                   text=True).stdout.splitlines()
            for line in lines:
                cells = [cell.strip() for cell in line.strip("|").split("|")]
                if len(cells) == 10 and cells[0].isdigit():
                    best = {f"decode_{cells[2]}": float(cells[7])}
                    if cells[2] == "1":
                        best["prefill_512"] = float(cells[5])
                    for name, value in best.items():
                        figures[name] = max(figures.get(name, 0.0), value)
        return " ".join(command).replace(str(model), model.name), figures

    def mistralrs_engine(self, model, threads):
        """mistral.rs in process, best of a few runs, in tokens per second."""
        script = Path(__file__).with_name("mistralrs_load.py")
        environment = os.environ | {"RAYON_NUM_THREADS": str(threads), "RUST_BACKTRACE": "0", "RUST_LOG": "off"}
        output = subprocess.run([self.python, script, model], check=True, capture_output=True, text=True,
                                env=environment).stdout
        return json.loads(output.splitlines()[-1])

    def llama_server(self, model, threads, slots, adapters):
        """A llama-server with `adapters` LoRA files, none of which acts unless a request names it."""
        return LlamaServer(self, model, threads, slots, adapters)

    def lora_files(self, count, rank, targets):
        """Random adapters in llama.cpp's own format."""
        folder = self.folder / f"lora-r{rank}-{len(targets)}"
        if len(list(folder.glob("*.gguf"))) < count:
            folder.mkdir(exist_ok=True)
            script = Path(__file__).with_name("lora_gguf.py")
            subprocess.run([self.python, script, folder, str(count), str(rank), ",".join(targets)], check=True)
        return sorted(folder.glob("*.gguf"))[:count]


class LlamaServer:
    """llama-server on a free port."""

    def __init__(self, peers, model, threads, slots, adapters):
        self.port = 18_000 + os.getpid() % 1000
        self.command = ["llama-server", "-m", str(model), "-t", str(threads), "-tb", str(threads), "-np", str(slots),
                        "-c", str(slots * 512), "--host", "127.0.0.1", "--port", str(self.port), "--no-webui",
                        "--cache-reuse", "0"]
        for adapter in adapters:
            self.command += ["--lora", str(adapter)]
        if adapters:
            self.command.append("--lora-init-without-apply")
        self.program = peers.programs / "llama-server"

    def __enter__(self):
        self.process = subprocess.Popen([self.program, *self.command[1:]], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{self.port}"
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{self.url}/health") as answer:
                    if answer.status == 200:
                        return self
            except OSError:
                pass
            if self.process.poll() is not None:
                raise SystemExit(f"llama-server ended with {self.process.returncode}: {' '.join(self.command)}")
            time.sleep(0.1)
        raise SystemExit("llama-server is not ready after a minute")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)

    def load(self, souk, name, *flags):
        """Runs `souk bench` on it, as on a Souk server."""
        result = Path(f"/tmp/souk-bench-{os.getpid()}.json")
        command = [souk, "bench", "--name", name, "--url", self.url, "--naming", "llama-server", *flags, "--json", result]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        figures = json.loads(result.read_text())
        result.unlink()
        return " ".join(["souk bench", "--naming llama-server", *flags]), figures


def compare(folder, souk, model, threads, root):
    """Measures the peers and the engine in turns and returns a Markdown table, with the command lines."""
    installed = Peers(folder)
    installed.install()
    ours, llama = {}, {}
    command = None
    for _ in range(3):
        for name, value in our_engine(root, threads).items():
            ours[name] = max(ours.get(name, 0.0), value)
        command, figures = installed.llama_engine(model, threads, repetitions=1)
        for name, value in figures.items():
            llama[name] = max(llama.get(name, 0.0), value)
    mistral = installed.mistralrs_engine(model, threads)
    lines = ["| in process, tokens/s | Souk | llama.cpp | Souk / llama.cpp | mistral.rs |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, label in (("prefill_512", "prefill 512"), ("decode_1", "decode, 1 sequence"), ("decode_4", "decode, 4"),
                        ("decode_16", "decode, 16")):
        other = f"{mistral[name]:.0f}" if name in mistral else "failed" if name in mistral["failures"] else "-"
        lines.append(f"| {label} | {ours[name]:.0f} | {llama[name]:.0f} | {ours[name] / llama[name]:.2f} | {other} |")
    lines += ["", "Best of three runs that took turns (mistral.rs: of two, after them).", ""]
    lines += [f"mistral.rs fails with `{name}`: {reason}" for name, reason in mistral["failures"].items()]
    table, loads = through_http(installed, souk, model, threads)
    versions = f"llama.cpp of llama-cpp-python {LLAMA_CPP_PYTHON}, mistral.rs {MISTRALRS}."
    shell = ["```sh", "cargo bench --bench engine -- --quick --json FILE", command,
             "python scripts/bench/mistralrs_load.py MODEL", *loads, "```"]
    return "\n".join([versions, "", *lines, "", *table, "", *shell])


def our_engine(root, threads):
    """Figures of the base from the engine benchmark."""
    result = Path(f"/tmp/souk-engine-{os.getpid()}.json")
    subprocess.run(["cargo", "bench", "--locked", "--bench", "engine", "--", "--quick", "--json", result], check=True,
                   stdout=subprocess.DEVNULL, cwd=root, env=os.environ | {"SOUK_BENCH_THREADS": str(threads)})
    throughput = json.loads(result.read_text())["throughput"]
    result.unlink()
    base = throughput["best"][0]["figures"]
    return {name.replace(" ", "_"): value for name, value in zip(throughput["columns"], base)}


def through_http(installed, souk, model, threads):
    """Sixteen users on either server, all on the base and each with an adapter of their own."""
    flags = ["--users", "16", "--prompt-tokens", "128", "--output-tokens", "64", "--duration-s", "30", "--warm-up-s", "5"]
    rows = ["| 16 users through HTTP, streamed | Souk tokens/s | llama-server tokens/s | ratio |", "| --- | ---: | ---: | ---: |"]
    loads = []
    adapters = installed.lora_files(16, 8, random_adapters.QUERY_VALUE)
    for label, ours, theirs in (("base", [], []),
                                ("16 adapters r=8 q,v", ["--adapters", "admin/r8-{0..15}"], ["--adapters", "{0..15}"])):
        with Server(souk) as server:
            server.publish([f"r8-{number}" for number in range(16)], 8, random_adapters.QUERY_VALUE)
            line, here = server.load(label, *flags, *ours)
        with installed.llama_server(model, threads, 16, adapters if theirs else []) as server:
            other_line, there = server.load(souk, label, *flags, *theirs)
        ratio = here["tokens_out_per_s"] / there["tokens_out_per_s"]
        rows.append(f"| {label} | {here['tokens_out_per_s']:.0f} | {there['tokens_out_per_s']:.0f} | {ratio:.2f} |")
        loads += [line, other_line]
    return rows, loads
