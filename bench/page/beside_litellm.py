"""LiteLLM's proxy with keys of its own on the same machine, before a server that runs no model, and Souk at the rate that it carries."""

import json
import secrets
import sys
import time
import urllib.request

from processes import LISTENING, READY_S, Process, free_port
from server import souk_bench
from sitting import CACHE, Failed, run, table

VERSION = "1.108.7"
RATES = (25, 50, 100, 200, 400, 800)
#: A rate is carried if all are answered, as fast as they come, and a percent at most takes longer than this.
LATEST_MS = 1000


def measure(sitting, fleet, shares, answers, step_ms):
    """Markdown. The fleet has a scripted node whose steps are as long."""
    python = installed()
    folder, key = fleet.folder, f"sk-{secrets.token_hex(8)}"
    times = ["--duration-s", str(sitting.seconds(10, 2)), "--warm-up-s", str(sitting.seconds(4, 1)), "--max-in-flight", "2048"]
    upstream = Process("upstream", [sitting.executables["scripted"], "upstream", "--listen", "127.0.0.1:0", "--step-ms", step_ms], folder,
                       says=LISTENING)
    config, port = folder / "litellm.yaml", free_port()
    model = {"model": "openai/scripted", "api_base": f"{upstream.said[1]}/v1", "api_key": "none"}
    config.write_text(json.dumps({"model_list": [{"model_name": "scripted", "litellm_params": model}],
                                  "general_settings": {"master_key": key}}))
    proxy = Process("litellm", [python.parent / "litellm", "--config", config, "--host", "127.0.0.1", "--port", port, "--num_workers", "1"],
                    folder, {"LITELLM_LOG": "ERROR"})
    settings = {"SOUK_URL": f"http://127.0.0.1:{port}", "SOUK_API_KEY": key}
    flags = ["--naming", "openai", "--base-model", "scripted", *answers, *times]
    try:
        until_alive(f"http://127.0.0.1:{port}/health/liveliness", proxy)
        carried = None
        for rate in RATES:
            was = proxy.cpu_seconds()
            _, result = souk_bench(fleet.souk, "litellm", ["--rate", str(rate), *flags], settings)
            cost = (proxy.cpu_seconds() - was) / max(result["succeeded"], 1) * 1e3
            # Of those in the warm-up there is no count; they cost as much.
            cost *= sum(map(float, times[1:2])) / sum(map(float, times[1:4:2]))
            if result["failed"] or result["requests_per_s"] < 0.95 * rate or result["latency"]["total"]["p99_ms"] > LATEST_MS:
                break
            carried = (rate, result, cost, proxy.resident_kib() / 1024)
    finally:
        proxy.kill()
        upstream.kill()
    if carried is None:
        return f"LiteLLM's proxy {VERSION} did not carry {RATES[0]} requests a second."
    rate, theirs, cost, memory = carried
    was = fleet.gateway.cpu_seconds()
    _, ours = fleet.load("beside", "--rate", str(rate), *answers, *times, *shares)
    own = (fleet.gateway.cpu_seconds() - was) / max(ours["succeeded"], 1) * 1e3 * float(times[1]) / (float(times[1]) + float(times[3]))
    ideal = 8 * step_ms
    rows = [
        ["first token p50 / p99, ms", both(ours, "time_to_first_token"), both(theirs, "time_to_first_token")],
        [f"whole answer p50 / p99, ms ({ideal} are the model's)", both(ours, "total"), both(theirs, "total")],
        ["processor time for a request, ms", f"{own:.2f}", f"{cost:.2f}"],
        ["resident, MiB", f"{fleet.gateway.resident_kib() / 1024:.0f}", f"{memory:.0f}"],
    ]
    return "\n\n".join([
        f"LiteLLM's proxy {VERSION} with a master key and one worker, without a database, before a server that runs no model and answers at "
        f"the same pace, at {rate} requests a second, the most of {', '.join(map(str, RATES))} that it carried without an error and with a "
        f"99th percentile below {LATEST_MS} ms; Souk with all that is on above at that rate.",
        table(["streamed", "Souk's gateway", "LiteLLM"], rows)])


def until_alive(url, proxy):
    """Waits until it answers: it says nothing when it does."""
    deadline = time.monotonic() + READY_S
    while True:
        try:
            with urllib.request.urlopen(url):
                return
        except OSError as error:
            if proxy.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"LiteLLM did not start: {error}:\n{proxy.log.read_text()[-2000:]}") from error
            time.sleep(0.2)


def both(result, name):
    """Median and 99th percentile."""
    return f"{result['latency'][name]['p50_ms']:.1f} / {result['latency'][name]['p99_ms']:.1f}"


def installed():
    """The Python of a virtual environment that has it."""
    folder = CACHE / "litellm"
    python = folder / "venv/bin/python"
    if not (folder / f".ready-{VERSION}").exists():
        folder.mkdir(parents=True, exist_ok=True)
        run([sys.executable, "-m", "venv", folder / "venv"])
        run([python, "-m", "pip", "install", "--quiet", f"litellm[proxy]=={VERSION}"])
        (folder / f".ready-{VERSION}").touch()
    return python
