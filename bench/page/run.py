"""The standing set of measurements: runs it and writes docs/benchmarks.md, each figure under the command that made it.

`make bench` runs everything of our own; `make bench PEERS=1` also builds llama.cpp and mistral.rs and measures them in
the same sitting, `make bench BEFORE=PATH` an older executable. A part that fails is shown with its reason, and the
others go on. `--only NAME,NAME` prints parts instead of writing the page, and so does `--quick`, whose figures are too
short to mean anything. `--renew NAME,NAME` takes parts anew and sets them into the page with their date. No line of the
page is written by hand.
"""

import argparse
import os
import re
import subprocess
import sys
import textwrap
import time
import traceback
from datetime import datetime, timezone
from pathlib import Path

import adapters
import before
import beside_peers
import cancel
import engine
import fleet
import flood
import hooks
import http_loads
import in_process
import neighbours
from peers import Peers
from sitting import CACHE, ROOT, Sitting, machine, run

PAGE = ROOT / "docs/benchmarks.md"
HEAD = """# Benchmarks

Written by `make bench{peers}` (`bench/page/run.py`) on {date}, in {minutes} minutes, on a commit of {commit}. Every table stands
beside the commands that made it. The machine is shared and noisy: compare figures of one sitting, as ratios. What a ratio
compares has run in turns. A part that was taken anew later says so.

Machine: {machine}. Model: SmolLM2-135M-Instruct, Q4_1, 98 MB, two compute threads.
"""


def parts(sitting, peers, older, soak_s):
    """Name, title, and how it is measured, in the page's order."""
    yield "engine", "Engine in process", lambda: engine.throughput(sitting)
    if peers:
        yield "peers", "Beside llama.cpp and mistral.rs", lambda: beside_peers.measure(sitting, peers)
    yield "in-process", "Through HTTP against in process", lambda: in_process.measure(sitting)
    yield "http", "Load through HTTP", lambda: http_loads.measure(sitting)
    if older:
        yield "before", "Beside an older executable", lambda: before.measure(sitting, older)
    yield "flood", "One request beside a flood of another tenant", lambda: flood.measure(sitting)
    yield "cancel", "Cancelled answers", lambda: cancel.measure(sitting)
    yield "neighbours", "Idle, and beside busy neighbours", lambda: neighbours.measure(sitting, peers)
    yield "rows", "What a step of more rows costs", lambda: engine.rows(sitting)
    yield "adapters", "Adapters that come and go", lambda: adapters.measure(sitting)
    yield "registry", "The registry: lists of 100,000 adapters, publishing, a large upload", lambda: with_souk(sitting, "registry")
    yield "rights", "Knowing who calls and what they may", lambda: sitting.bench("rights")
    yield "queue", "The queue: submit, claim, renew, settle", lambda: sitting.bench("queue")
    yield "fleet", "A fleet: what a request and a stream take", lambda: fleet.costs(sitting)
    yield "nodes", "A fleet: nodes apart, lost and new", lambda: fleet.nodes(sitting)
    yield "routing", "A fleet: routing at scale", lambda: fleet.simulation(sitting)
    yield "limits", "Reserving and settling what requests may use", lambda: with_souk(sitting, "limits")
    yield "hooks", "Hooks before and after the model", lambda: hooks.measure(sitting)
    yield "usage", "Rows of usage, and sums of them", lambda: sitting.bench("usage")
    yield "sampler", "Choosing tokens", lambda: sitting.bench("sampler")
    yield "profile", "One step by op", lambda: engine.profile(sitting)
    yield "startup", "Start and memory", lambda: startup(sitting)
    if soak_s:
        yield "soak", "Soak", lambda: soak(soak_s)


def with_souk(sitting, name):
    """Markdown of a benchmark that starts the executable, whose path is nobody's business."""
    return sitting.bench(name, "--souk", str(sitting.souk)).replace(str(sitting.souk), "PATH")


def startup(sitting):
    """Markdown with the time to ready and the peak memory."""
    output = run([ROOT / "bench/page/startup.sh"], env=os.environ | {"SOUK": str(sitting.souk)})
    return f"`bench/page/startup.sh` on a release build with the model in the cache:\n\n```text\n{output.strip()}\n```"


def soak(seconds):
    """Markdown with what the soak test says of so many seconds."""
    output = run(["cargo", "test", "--locked", "--release", "--test", "soak", "--", "--nocapture"], cwd=ROOT,
                 env=os.environ | {"SOUK_SOAK_S": str(seconds)})
    said = [line for line in output.splitlines() if re.match(r"memory \d", line)]
    return "\n".join([f"`SOUK_SOAK_S={seconds} make soak`:", "", "```text", *said, "```"])


def part(title, measure):
    """A part of the page, under its title, and whether it succeeded."""
    began = time.monotonic()
    print(f"# {title} ...", end=" ", file=sys.stderr, flush=True)
    try:
        text, succeeded = measure(), True
    except Exception as error:  # noqa: BLE001 - whatever it is, the other parts go on
        traceback.print_exc()
        text, succeeded = f"This part failed:\n\n```text\n{type(error).__name__}: {error}\n```", False
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return f"## {title}\n\n{wrapped(text)}\n", succeeded


def renewed(page, parts):
    """The page with these parts in place of those with the same titles; one that the page lacks goes to its end."""
    head, *sections = re.split(r"^(?=## )", page, flags=re.M)
    titles = [section.partition("\n")[0] for section in sections]
    for text in parts:
        title, _, rest = text.partition("\n")
        date = datetime.now(timezone.utc).date().isoformat()
        text = f"{title}\n\nTaken anew on {date}, on a commit of {commit_date()}.\n{rest}"
        if title in titles:
            place = titles.index(title)
            sections[place] = text if place == len(sections) - 1 else text + "\n"
        else:
            sections[-1] += "\n"
            sections.append(text)
            titles.append(title)
    return "".join([head, *sections])


def wrapped(text):
    """Breaks the lines of paragraphs; tables, headings and blocks of code stay as they are."""
    pieces = re.split(r"(^```.*?^```$)", text, flags=re.M | re.S)
    for place in range(0, len(pieces), 2):
        paragraphs = pieces[place].split("\n\n")
        pieces[place] = "\n\n".join(paragraph if re.match(r"\s*(\||#|`[^`]*`$)", paragraph) else
                                    textwrap.fill(paragraph, 130, break_on_hyphens=False, break_long_words=False) for paragraph in paragraphs)
    return "".join(pieces)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--souk", required=True, type=Path, help="the executable (release)")
    parser.add_argument("--peers", action="store_true", help="measure llama.cpp and mistral.rs too")
    parser.add_argument("--before", type=Path, help="an older executable (release) to measure in turns with it")
    parser.add_argument("--soak-s", type=int, default=0, help="seconds of the soak test; 0 leaves it out")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--only", help="parts, printed and not written")
    chosen.add_argument("--renew", help="parts, set into the page that is there")
    parser.add_argument("--quick", action="store_true", help="everything very short, to see that it works; printed")
    arguments = parser.parse_args()
    sitting = Sitting(arguments.souk, arguments.quick)
    sitting.build()
    peers = Peers(CACHE / "peers") if arguments.peers else None
    if peers:
        peers.install()
    named = arguments.only or arguments.renew
    wanted = named.split(",") if named else None
    began = time.monotonic()
    done = [part(title, measure) for name, title, measure in parts(sitting, peers, arguments.before, arguments.soak_s)
            if wanted is None or name in wanted]
    head = HEAD.format(peers=" PEERS=1" if peers else "", date=datetime.now(timezone.utc).date().isoformat(), machine=machine(),
                       minutes=round((time.monotonic() - began) / 60), commit=commit_date())
    texts = [text for text, _ in done]
    page = renewed(PAGE.read_text(), texts) if arguments.renew else "\n".join([head, *texts])
    if arguments.quick or arguments.only:
        print(page)
    else:
        PAGE.write_text(page)
    return 0 if all(succeeded for _, succeeded in done) else 1


def commit_date():
    """Day of the commit that is checked out; a checkout without history has none."""
    done = subprocess.run(["git", "log", "-1", "--format=%cs"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown date"


sys.exit(main())
