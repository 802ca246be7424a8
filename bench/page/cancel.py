"""How soon a closed connection has given its place in the batch to the next in line."""

import http.client
import threading
import time
from collections import deque

from server import Server
from sitting import median, table

NUM_WAITING = 8
PROMPT = "Once upon a time"
#: More than come before the last one is cancelled.
OUTPUT_TOKENS = 300


def measure(sitting):
    """Markdown: in process from the engine's benchmark, and through HTTP."""
    num_cancels = sitting.seconds(24, 4)
    rows = []
    for num_running in (16, 32):
        with Server(sitting.souk, {"SOUK_ENGINE__MAX_SEQUENCES": str(num_running)}) as server:
            times = cancels(server, num_running, num_cancels)
        rows.append((num_running, f"{median(times):.0f}", f"{max(times):.0f}"))
    return "\n\n".join([
        sitting.bench("engine", "--only", "cancel"),
        f"The same through HTTP: the connection of the answer that has run longest is closed, {num_cancels} times, and the clock runs "
        "until the next in line has its first token, which takes a step of its own.",
        table(["running answers", "first token of the next, ms: p50", "most"], rows),
    ])


def cancels(server, num_running, num_cancels):
    """Milliseconds from closing a connection to the first token of the next answer."""
    number = iter(range(10**6))
    ask = lambda: Waiting(server, f"{next(number)} {PROMPT}")
    running = deque(ask() for _ in range(num_running))
    for answer in running:
        answer.wait()
    waiting = deque(ask() for _ in range(NUM_WAITING))
    times = []
    for place in range(num_cancels):
        # Anywhere within a step, and late enough for the last one to be settled.
        time.sleep(0.06 + 0.05 * (place * 0.618 % 1))
        waiting.append(ask())
        closed = time.monotonic()
        running.popleft().close()
        following = waiting.popleft()
        times.append(1000 * (following.wait() - closed))
        running.append(following)
    for answer in (*running, *waiting):
        answer.close()
    return times


class Waiting:
    """An answer whose first token a thread waits for."""

    def __init__(self, server, prompt):
        self.answer = server.stream(prompt, OUTPUT_TOKENS, server.key)
        self.first = None
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self):
        try:
            self.answer.wait_for_text()
            self.first = time.monotonic()
        except (OSError, http.client.HTTPException, AttributeError):
            # Closed by us while it waited.
            pass

    def wait(self):
        """When the first token came."""
        self.thread.join(60)
        return self.first

    def close(self):
        """Closes the connection; the server notices that nobody reads."""
        self.answer.close()
