"""Other servers on the same machine, model file and number of threads: llama.cpp and mistral.rs.

llama.cpp is built from the source that the package llama-cpp-python carries, mistral.rs comes as a package. Both live in a
virtual environment of their own in the cache folder.
"""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from sitting import MODEL, THREADS, run

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
            run([sys.executable, "-m", "venv", self.folder / "venv"])
            self.pip("install", "--quiet", *BUILD_TOOLS, "gguf", f"mistralrs=={MISTRALRS}")
            # The build tools are there already, so that pip need not set up an environment of its own for the metadata.
            self.pip("download", "--quiet", "--no-deps", "--no-build-isolation", "--no-binary", ":all:",
                     "--dest", self.folder, f"llama-cpp-python=={LLAMA_CPP_PYTHON}")
            self.build_llama_cpp()
            (self.folder / ".ready").touch()

    def pip(self, *arguments):
        """Runs pip of the virtual environment."""
        run([self.python, "-m", "pip", *arguments])

    def build_llama_cpp(self):
        """Unpacks the source and builds the two programs that are measured."""
        archive = next(self.folder.glob("llama_cpp_python-*.tar.gz"))
        with tarfile.open(archive) as source:
            source.extractall(self.folder, filter="data")
        source = self.folder / archive.name.removesuffix(".tar.gz") / "vendor/llama.cpp"
        environment = os.environ | {"PATH": f"{self.python.parent}:{os.environ['PATH']}"}
        flags = ["CMAKE_BUILD_TYPE=Release", "GGML_NATIVE=ON", "BUILD_SHARED_LIBS=OFF", "LLAMA_CURL=OFF",
                 "LLAMA_OPENSSL=OFF", "LLAMA_BUILD_TESTS=OFF", "LLAMA_BUILD_EXAMPLES=OFF"]
        run(["cmake", "-G", "Ninja", "-S", source, "-B", self.folder / "llama-build", *(f"-D{flag}" for flag in flags)],
            env=environment)
        # Fifteen minutes on two cores.
        run(["ninja", "-C", self.folder / "llama-build", "llama-batched-bench", "llama-server"], env=environment, timeout=3600)

    def llama_engine(self):
        """One run of llama-batched-bench at the prompt lengths and batches of our own benchmark, in tokens per second."""
        decode, prefill = (self.llama_batched_bench(*arguments) for arguments in ENGINE_RUNS)
        figures = {f"decode {batch}": line["decode"] for batch, line in decode.items()}
        return figures | {"prefill 512": prefill[1]["prefill"]}

    def llama_decode_16(self, timeout_s):
        """Tokens per second of sixteen sequences.

        Raises TimeoutExpired if that takes too long.
        """
        return self.llama_batched_bench(*DECODE_16_RUN, timeout=timeout_s)[16]["decode"]

    def llama_batched_bench(self, *arguments, **options):
        """Runs it and returns prefill and decode in tokens per second by the number of sequences."""
        output = run([self.programs / "llama-batched-bench", "-m", MODEL, *LLAMA_FLAGS, *arguments], **options)
        figures = {}
        for line in output.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) == 10 and cells[0].isdigit():
                figures[int(cells[2])] = {"prefill": float(cells[5]), "decode": float(cells[7])}
        return figures

    @staticmethod
    def engine_commands():
        """The command lines of `llama_engine`."""
        return [command(*arguments) for arguments in ENGINE_RUNS]

    @staticmethod
    def decode_16_command():
        """The command line of `llama_decode_16`."""
        return command(*DECODE_16_RUN)

    def mistralrs_engine(self, quick):
        """mistral.rs in process: tokens per second by name, with the failures."""
        script = Path(__file__).with_name("mistralrs_load.py")
        environment = os.environ | {"RAYON_NUM_THREADS": str(THREADS), "RUST_BACKTRACE": "0", "RUST_LOG": "off"}
        output = run([self.python, script, MODEL, *(["--quick"] if quick else [])], env=environment, timeout=150)
        return json.loads(output.splitlines()[-1])

    def lora_files(self, count, rank, targets):
        """Random adapters in llama.cpp's own format."""
        folder = self.folder / f"lora-r{rank}-{len(targets)}"
        if len(list(folder.glob("*.gguf"))) < count:
            folder.mkdir(exist_ok=True)
            script = Path(__file__).with_name("lora_gguf.py")
            run([self.python, script, folder, str(count), str(rank), ",".join(targets)])
        return sorted(folder.glob("*.gguf"))[:count]


LLAMA_FLAGS = ["-c", "16384", "-b", "2048", "-ub", "512", "-t", str(THREADS), "-tb", str(THREADS)]
ENGINE_RUNS = (["-npp", "32", "-ntg", "64", "-npl", "1,4,16"], ["-npp", "512", "-ntg", "1", "-npl", "1"])
DECODE_16_RUN = ["-npp", "32", "-ntg", "32", "-npl", "16"]


def command(*arguments):
    """A command line of llama-batched-bench as the page shows it."""
    return " ".join(["llama-batched-bench -m", MODEL.name, *LLAMA_FLAGS, *arguments])
