"""A client that goes away takes its request out of the batch."""

import time
import urllib.request

from common import BASE, KEY, URL, client

api = client()


def running():
    with urllib.request.urlopen(f"{URL}/metrics") as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("souk_engine_running"))


def wait_for(count):
    end = time.monotonic() + 10
    while running() != count:
        assert time.monotonic() < end, f"{running()} sequences run, not {count}"
        time.sleep(0.02)


messages = [{"role": "user", "content": "Tell a very long story."}]
stream = api.chat.completions.create(
    model=BASE, messages=messages, max_tokens=7000, stream=True, extra_body={"ignore_eos": True}
)
next(iter(stream))
wait_for(1)
stream.close()
wait_for(0)

# Answers that are not streamed are given up too.
impatient = client(timeout=0.5)
try:
    impatient.chat.completions.create(model=BASE, messages=messages, max_tokens=7000, extra_body={"ignore_eos": True})
    raise AssertionError("7,000 tokens in half a second")
except Exception as error:
    assert "timed out" in str(error).lower(), error
wait_for(0)

# The server is well.
assert api.chat.completions.create(model=BASE, messages=messages, max_tokens=4).usage.completion_tokens == 4
