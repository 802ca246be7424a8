"""A tenant with 200 requests in the queue, and another that asks for one thing at a time."""

import time

from server import Server, background_load
from sitting import median, table

NUM_QUEUED = 200
FLAGS = ["--users", str(NUM_QUEUED), "--prompt-tokens", "32", "--output-tokens", "64"]
#: About 32 tokens.
PROMPT = "Once upon a time there was a small village by the sea where all the people made long nets of rope and sold fish to"


def measure(sitting):
    """Markdown with times to the first token, alone and beside the flood."""
    count = sitting.seconds(20, 3)
    with Server(sitting.souk) as server:
        one, many = server.tenant("one"), server.tenant("many")
        ask(server, one, "warm-up")
        alone = [ask(server, one, f"alone {number}") for number in range(count)]
        with background_load(server, many, FLAGS):
            # All are there, and the batch has settled.
            time.sleep(sitting.seconds(6, 3))
            beside = [ask(server, one, f"beside {number}") for number in range(count)]
    rows = [(name, f"{median([ms for ms, _ in asked]):.0f}", f"{max(ms for ms, _ in asked):.0f}",
             median([steps for _, steps in asked]), max(steps for _, steps in asked))
            for name, asked in (("alone", alone), (f"beside {NUM_QUEUED} of another tenant", beside))]
    return "\n\n".join([
        f"One tenant keeps {NUM_QUEUED} requests in the queue (`souk bench {' '.join(FLAGS)}`), another asks {count} times for one "
        "answer to a prompt of about 32 tokens. Steps of the engine are counted from just before the request is sent to just after "
        "its first token has come, by `souk_engine_step_seconds_count`.",
        table(["first token", "p50, ms", "most, ms", "p50, steps", "most, steps"], rows),
        f"Fair queueing lets the single request in at once. Beside the flood its first token takes {rows[1][3] - rows[0][3]} more "
        f"steps at the median, {rows[1][4] - rows[0][4]} at most.",
    ])


def ask(server, key, name):
    """Asks and returns milliseconds and engine steps to the first token."""
    before = server.num_steps()
    sent = time.monotonic()
    with server.stream(f"{name}. {PROMPT}", 4, key) as answer:
        answer.wait_for_text()
        took = time.monotonic() - sent
        steps = server.num_steps() - before
        answer.read_to_end()
    return 1000 * took, steps
