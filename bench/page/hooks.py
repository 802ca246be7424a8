"""What hooks cost, beside Extism at the same work, and what a tenant's misbehaving hooks cost another tenant."""

import json
import sys
import uuid

from server import Server, background_load
from sitting import CACHE, ROOT, Failed, median, run, table

PUPPET = ROOT / "plugins/tests/guests/puppet.wasm"
#: What the enemy's hook does in each of its requests, all of which end before the model is asked.
ACTS = {"loops until its fuel is spent": {"prompt": {"do": "loop"}}, "traps": {"prompt": {"do": "trap"}}}
ENEMIES = ["--users", "16", "--prompt-tokens", "32", "--output-tokens", "16"]
VICTIM = ["--users", "4", "--prompt-tokens", "32", "--output-tokens", "64"]
PAIRS = 5
EXTISM, ZIG = "1.1.1", "0.17.1"


def measure(sitting):
    """Markdown."""
    return "\n\n".join([sitting.bench("hooks"), beside_extism(sitting), beside_enemies(sitting)])


def beside_extism(sitting):
    """A fresh plug-in for each call, of a module that is compiled already."""
    folder = CACHE / "extism"
    python = folder / "venv/bin/python"
    if not (folder / ".ready").exists():
        folder.mkdir(parents=True, exist_ok=True)
        run([sys.executable, "-m", "venv", folder / "venv"])
        run([python, "-m", "pip", "install", "--quiet", f"extism=={EXTISM}", f"ziglang=={ZIG}"])
        (folder / ".ready").touch()
    module = folder / "redact.wasm"
    run([python, "-m", "ziglang", "cc", "--target=wasm32-freestanding", "-nostdlib", "-Wl,--no-entry", "-Wl,--export=redact",
         "-O2", "-s", ROOT / "bench/extism/redact.c", "-o", module])
    calls = sitting.seconds(2000, 50)
    theirs = json.loads(run([python, ROOT / "bench/extism/measure.py", module, str(calls)]))
    ours = sitting.figures_of("hooks")["pairs"][0]
    rows = [[name, f"{mine:.0f}", f"{their:.0f}", f"{their / mine:.1f}"] for name, mine, their in (
        ("time, p50", ours["p50_us"], theirs["p50_us"]),
        ("processor time of the process, mean", ours["process_us"], theirs["process_us"]))]
    return "\n\n".join([
        f"Beside Extism {EXTISM} (the package's own host, called from Python): a text of 4,096 bytes is redacted before the model and "
        "another after it, each by a fresh instance of a module that is compiled already. `bench/extism/redact.c` reads no configuration "
        "and takes no conversation apart, so it has less to do.",
        table(["a pair of calls, µs", "Souk", "Extism", "Extism / Souk"], rows),
    ])


def beside_enemies(sitting):
    """Times between a tenant's tokens, alone and beside another whose hooks misbehave, in turns."""
    times = ["--duration-s", str(sitting.seconds(8, 2)), "--warm-up-s", "1"]
    rows = []
    with Server(sitting.souk) as server:
        publish_puppet(server)
        enemy = server.tenant("enemy", ("inference", "tenant:manage"))
        server.load("some work", *VICTIM, *times)
        for act, config in ACTS.items():
            pipeline = {"steps": [{"hook": "admin/puppet", "config": config}]}
            server.call("PUT", "/registry/v1/pipelines/tenant/enemy", json.dumps(pipeline).encode(), key=enemy)
            pairs = []
            for _ in range(sitting.seconds(PAIRS, 1)):
                alone = between_tokens(server, times)
                with background_load(server, enemy, ENEMIES):
                    pairs.append((alone, between_tokens(server, times)))
            ratio = median([beside / alone for alone, beside in pairs])
            alone, beside = (median([pair[place] for pair in pairs]) for place in (0, 1))
            rows.append([act, f"{alone:.1f}", f"{beside:.1f}", f"{ratio:.2f}"])
    return "\n\n".join([
        f"One tenant's answers (`souk bench {' '.join(VICTIM)}`) beside another tenant who asks as fast as it is answered "
        f"(`souk bench {' '.join(ENEMIES)}`) and whose hook misbehaves in each request; {PAIRS} pairs in turns, of each the median.",
        table(["the other's hook", "between tokens p99 alone, ms", "beside, ms", "beside / alone, median of pairs"], rows),
    ])


def publish_puppet(server):
    """Publishes the hook that does what its configuration says, for all to use."""
    server.call("POST", "/registry/v1/hooks", json.dumps({"name": "puppet", "visibility": "public"}).encode())
    boundary = uuid.uuid4().hex
    fields = (("version", "", b"1.0.0"), ("component", '; filename="component.wasm"', PUPPET.read_bytes()))
    body = b"".join(
        f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"
        for name, file, content in fields
    ) + f"--{boundary}--\r\n".encode()
    server.call("POST", "/registry/v1/hooks/admin/puppet/versions", body, f"multipart/form-data; boundary={boundary}")


def between_tokens(server, times):
    """The 99th percentile in milliseconds."""
    _, result = server.load("beside hooks", *VICTIM, *times)
    if result["failed"]:
        raise Failed(f"{result['failed']} of the other tenant's requests failed")
    return result["latency"]["between_chunks"]["p99_ms"]
