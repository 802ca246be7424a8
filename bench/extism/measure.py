"""Pairs of calls of a plug-in of Extism, each with a fresh instance: measure.py MODULE CALLS. Prints JSON."""

import json
import sys
import time
from pathlib import Path

import extism
from extism.extism import CompiledPlugin

SENTENCE = b"What is not a secret may be said twice. "
TEXT = (SENTENCE * 103)[:4096]
REDACTED = TEXT.replace(b"secret", b"[redacted]")


def pair(compiled):
    for _ in range(2):
        plugin = extism.Plugin(compiled)
        if plugin.call("redact", TEXT) != REDACTED:
            raise SystemExit("the plug-in does other work")
        del plugin


def main():
    module, calls = Path(sys.argv[1]).read_bytes(), int(sys.argv[2])
    compiled = CompiledPlugin(module)
    for _ in range(20):
        pair(compiled)
    times, spent = [], time.process_time()
    for _ in range(calls):
        began = time.perf_counter()
        pair(compiled)
        times.append(time.perf_counter() - began)
    spent = time.process_time() - spent
    times.sort()
    print(json.dumps({"p50_us": 1e6 * times[calls // 2], "p99_us": 1e6 * times[calls * 99 // 100], "process_us": 1e6 * spent / calls}))


main()
