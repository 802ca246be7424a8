"""The standing set of measurements: runs it and writes docs/benchmarks.md, each figure under the command that made it.

`make bench` runs everything of our own; `make bench PEERS=1` also builds llama.cpp and mistral.rs and measures them in the
same sitting. `--only NAME` runs a part and prints it instead of writing the page.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import http_loads
import peers

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "souk"
MODEL = CACHE / "models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf"
PAGE = ROOT / "docs/benchmarks.md"

HEAD = """# Benchmarks

Written by `make bench` (`scripts/bench/`) on {date}; every table stands under the command that made it. The machine is shared
and noisy: compare figures of one sitting, as ratios. Ratios within a table come from runs that take turns.

Machine: {machine}. Model: SmolLM2-135M-Instruct, Q4_1, 98 MB, two compute threads.
"""


def cargo(*arguments):
    """Runs a benchmark of the workspace and returns what it prints."""
    command = ["cargo", *arguments]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
    return section(" ".join(argument for argument in command if argument != "--locked"), output.strip())


def section(command, output):
    """A command line with its output: Markdown as it is, anything else fenced."""
    shown = output if re.search(r"^\|", output, re.M) else f"```text\n{output}\n```"
    return f"`{command}`\n\n{shown}"


def machine():
    info = Path("/proc/cpuinfo").read_text()
    name = re.search(r"^model name\s*: (.*)$", info, re.M)
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / 2**20
    vectors = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16") if f" {flag}" in info]
    return f"{os.cpu_count()} cores of {name[1] if name else platform.machine()} ({', '.join(vectors)}), {memory:.0f} GiB"


def startup(souk):
    environment = os.environ | {"SOUK": str(souk)}
    output = subprocess.run([ROOT / "scripts/bench_startup.sh"], check=True, capture_output=True, text=True,
                            env=environment).stdout
    return section("scripts/bench_startup.sh", output.strip())


def parts(souk, with_peers):
    """Title, what it says, and how it is measured, in the page's order."""
    threads = 2
    yield "engine", "Engine in process", lambda: cargo("bench", "--locked", "--bench", "engine")
    yield "profile", "One step by op", lambda: cargo("bench", "--locked", "--bench", "engine", "--", "--profile")
    yield "adapters", "Adapters: cold, many, and more than fit", lambda: cargo("bench", "--locked", "--bench", "adapters")
    yield "sampler", "Choosing tokens", lambda: cargo("bench", "--locked", "--bench", "sampler")
    yield "http", "Load through HTTP", lambda: http_loads.measure(souk)
    if with_peers:
        yield "peers", "Beside llama.cpp and mistral.rs", lambda: peers.compare(CACHE / "peers", souk, MODEL, threads, ROOT)
    yield "startup", "Start and memory", lambda: startup(souk)
    yield "kernels", "Kernels", lambda: cargo("run", "--locked", "--release", "-p", "souk-kernels", "--example",
                                              "kernel_bench", "--", "2")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--souk", required=True, type=Path, help="the executable (release)")
    parser.add_argument("--peers", action="store_true", help="measure llama.cpp and mistral.rs too")
    parser.add_argument("--only", help="one part, printed and not written")
    arguments = parser.parse_args()
    page = [HEAD.format(date=date.today().isoformat(), machine=machine())]
    for name, title, measure in parts(arguments.souk, arguments.peers):
        if arguments.only in (None, name):
            print(f"# {title}", file=sys.stderr, flush=True)
            page.append(f"## {title}\n\n{measure()}\n")
    if arguments.only:
        print("\n".join(page[1:]))
    else:
        PAGE.write_text("\n".join(page))


main()
