"""What the engine's threads take while there is nothing to do, and how it fares beside other busy processes."""

import subprocess
import sys
import time
from contextlib import contextmanager

from server import Server
from sitting import Failed, table

IDLE_S = 10
NUM_NEIGHBOURS = (0, 1, 2, 4)


def measure(sitting, peers):
    """Markdown; with llama.cpp beside if there are peers."""
    with Server(sitting.souk) as server:
        # After some work, so that the threads have had reason to spin.
        server.load("some work", "--users", "4", "--duration-s", "2", "--warm-up-s", "0")
        time.sleep(1)
        before = server.cpu_seconds()
        time.sleep(IDLE_S)
        idle = server.cpu_seconds() - before
    ours, theirs = [], []
    for count in NUM_NEIGHBOURS:
        with busy(count):
            ours.append(sitting.figures("engine", "decode16"))
            if peers:
                theirs.append(llama(peers))
    head = ["busy neighbours", "Souk, tokens/s", "against none"]
    rows = [[count, f"{ours[place]:.0f}", f"{ours[place] / ours[0]:.2f}"] for place, count in enumerate(NUM_NEIGHBOURS)]
    if peers:
        head += ["llama.cpp, tokens/s", "against none"]
        for place, row in enumerate(rows):
            row += [f"{theirs[place]:.0f}", f"{theirs[place] / theirs[0]:.2f}"] if theirs[place] else ["not done in 40 s", ""]
    lines = [
        f"`souk serve` that has nothing to do takes {idle:.2f} s of processor time in {IDLE_S} s.",
        "Decode of 16 sequences beside endless loops of normal priority on the same two cores (the median of "
        "`cargo bench -p souk-bench --bench engine -- --only decode16`). With n of them a thread has at best 2 / (2 + n) of its core.",
        table(head, rows),
    ]
    if peers:
        lines.append(f"llama.cpp: `{peers.decode_16_command()}`")
    return "\n\n".join(lines)


@contextmanager
def busy(count):
    """So many processes that only take processor time."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def llama(peers):
    """Tokens per second, or None if 40 s are not enough."""
    try:
        return peers.llama_decode_16(timeout_s=40)
    except (subprocess.TimeoutExpired, Failed):
        return None
