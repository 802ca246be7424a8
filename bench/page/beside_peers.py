"""Souk beside llama.cpp and mistral.rs in one sitting: in process and through HTTP."""

import subprocess

from llama_server import LlamaServer
from peers import LLAMA_CPP_PYTHON, MISTRALRS
from server import Server
from sitting import QUERY_VALUE, Failed, shell, table

FIGURES = (("prefill 512", "prefill 512"), ("decode 1", "decode, 1 sequence"), ("decode 4", "decode, 4"), ("decode 16", "decode, 16"))


def measure(sitting, peers):
    """Markdown with both tables."""
    return "\n\n".join([
        f"llama.cpp of llama-cpp-python {LLAMA_CPP_PYTHON}, mistral.rs {MISTRALRS}; the same model file and number of threads.",
        in_process(sitting, peers), through_http(sitting, peers)])


def in_process(sitting, peers):
    """The engines, in turns."""
    rounds = sitting.seconds(3, 1)
    ours, llama = {}, {}
    for _ in range(rounds):
        keep_best(ours, our_engine(sitting))
        keep_best(llama, peers.llama_engine())
    try:
        mistral = peers.mistralrs_engine(sitting.quick)
    except (Failed, subprocess.TimeoutExpired) as error:
        mistral = {"failures": {"all": str(error).replace("\n", " ")}}
    rows = [(label, f"{ours[name]:.0f}", f"{llama[name]:.0f}", f"{ours[name] / llama[name]:.1f}",
             f"{mistral[name]:.0f}" if name in mistral else "-") for name, label in FIGURES]
    lines = [
        table(["in process, tokens/s", "Souk", "llama.cpp", "Souk / llama.cpp", "mistral.rs"], rows),
        f"The best of {rounds} runs that took turns (mistral.rs: of two, after them); decode after a prompt of 32 tokens. The Python "
        "package of mistral.rs takes one request at a time, so more sequences can only be the choices of one request.",
        *(f"mistral.rs fails at {name}: {reason}" for name, reason in mistral["failures"].items()),
        shell(["cargo bench -p souk-bench --bench engine -- --only base --rounds 1", *peers.engine_commands(), "python bench/page/mistralrs_load.py MODEL"]),
    ]
    return "\n\n".join(lines)


def our_engine(sitting):
    """Figures of the base."""
    figures = sitting.figures("engine", "base", "--rounds", "1")
    return dict(zip(figures["columns"], figures["best"][0]["figures"]))


def keep_best(best, figures):
    """Keeps the greater of each figure."""
    for name, value in figures.items():
        best[name] = max(best.get(name, 0.0), value)


def through_http(sitting, peers):
    """Sixteen users on either server, all on the base and each with an adapter of their own."""
    flags = ["--users", "16", "--prompt-tokens", "128", "--output-tokens", "64",
             "--duration-s", str(sitting.seconds(15, 3)), "--warm-up-s", str(sitting.seconds(4, 1))]
    rows, commands = [], []
    adapters = peers.lora_files(16, 8, QUERY_VALUE)
    for label, ours, theirs in (("base", [], []),
                                ("16 adapters r=8 q,v", ["--adapters", "admin/r8-{0..15}"], ["--adapters", "{0..15}"])):
        with Server(sitting.souk) as server:
            server.publish([f"r8-{number}" for number in range(16)], 8, QUERY_VALUE)
            line, here = server.load(label, *flags, *ours)
        with LlamaServer(peers, 16, adapters if theirs else []) as server:
            other_line, there = server.load(sitting.souk, label, *flags, *theirs)
        mine, other = here["tokens_out_per_s"], there["tokens_out_per_s"]
        rows.append((label, f"{mine:.0f}", f"{other:.0f}", f"{mine / other:.1f}" if other else "-",
                     here["failed"], there["failed"]))
        commands += [line, other_line]
    head = ["16 users through HTTP, streamed", "Souk, tokens/s", "llama-server, tokens/s", "ratio", "failed: Souk", "llama-server"]
    return "\n\n".join([table(head, rows), shell(commands)])
