"""What the parts of one sitting share: the executables, the machine, and how long to measure."""

import json
import os
import platform
import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "souk"
MODEL = CACHE / "models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf"
THREADS = 2
#: Longest run of one program; what hangs fails, and the other parts go on.
LONGEST_RUN_S = 600
BENCHMARKS = {"souk-bench": ("engine", "adapters", "sampler", "registry", "rights", "queue", "limits", "usage", "scripted"), "souk-plugins": ("hooks",)}
QUERY_VALUE = ["q_proj", "v_proj"]
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Sitting:
    """One run of the standing set, or of a part of it."""

    def __init__(self, souk, quick):
        self.souk, self.quick = souk, quick
        self.executables = {}

    def build(self):
        """Builds the benchmarks, so that no part waits for the compiler."""
        packages = [argument for package in BENCHMARKS for argument in ("-p", package)]
        wanted = [argument for names in BENCHMARKS.values() for name in names for argument in ("--bench", name)]
        lines = subprocess.run(["cargo", "bench", "--locked", *packages, "--no-run", *wanted, "--message-format", "json"],
                               check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout.splitlines()
        for message in map(json.loads, lines):
            if message.get("executable") and "bench" in message["target"]["kind"]:
                self.executables[message["target"]["name"]] = message["executable"]

    def seconds(self, standing, quick):
        """How long, or how often, something is measured."""
        return quick if self.quick else standing

    def bench(self, name, *arguments):
        """Runs a benchmark of the workspace; returns what it prints, under its command."""
        arguments = [*arguments, *(["--quick"] if self.quick else [])]
        output = run([self.executables[name], *arguments], cwd=ROOT,
                     env=os.environ | {"SOUK_BENCH_THREADS": str(THREADS)})
        package = next(package for package, names in BENCHMARKS.items() if name in names)
        shown = " ".join([f"cargo bench -p {package} --bench", name, *(["--", *arguments] if arguments else [])])
        return f"`{shown}`\n\n{output.strip()}"

    def figures(self, name, section, *arguments):
        """Runs one section of a benchmark and returns its part of the JSON file."""
        return self.figures_of(name, "--only", section, *arguments)[section]

    def figures_of(self, name, *arguments):
        """Runs a benchmark and returns the JSON file that it writes."""
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            self.bench(name, *arguments, "--json", file.name)
            return json.loads(Path(file.name).read_text())


class Failed(Exception):
    """A program ended badly; the text says which and what it said last."""


def run(command, **options):
    """Runs a program to its end and returns what it prints.

    Raises Failed with its last words.
    """
    options = {"timeout": LONGEST_RUN_S} | options
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise Failed(f"{Path(command[0]).name} ended with {done.returncode}:\n{last}")
    return done.stdout


def write_adapters(folder, count, rank, targets):
    """Writes adapters of random numbers as PEFT folders `000`, `001` and so on."""
    run(["cargo", "run", "--release", "--locked", "--quiet", "-p", "souk-testkit", "--example", "write_adapters", "--",
         folder, str(count), str(rank), ",".join(targets)], cwd=ROOT)


def machine():
    """The machine in a line."""
    info = Path("/proc/cpuinfo").read_text()
    name = re.search(r"^model name\s*: (.*)$", info, re.M)
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / 2**20
    vectors = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16") if f" {flag}" in info]
    return f"{os.cpu_count()} cores of {name[1] if name else platform.machine()} ({', '.join(vectors)}), {memory:.0f} GiB"


def table(head, rows):
    """A Markdown table; the first column is text, the others are figures."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def shell(commands):
    """Command lines as a block of code, each once."""
    return "\n".join(["```sh", *dict.fromkeys(commands), "```"])


def median(values):
    """The middle one, or the upper of two."""
    return sorted(values)[len(values) // 2]
