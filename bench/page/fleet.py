"""A fleet: what its parts cost a request, how much memory a stream holds, what running apart costs, how soon a lost node's answers go
on and how soon a new node answers, and routing at scale by simulation."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import beside_litellm
from processes import Fleet, Pings, stage_quantiles
from server import Server, background_load
from sitting import QUERY_VALUE, Failed, median, run, shell, table

STAGES = ("authenticate", "authorise", "admit", "prepare", "reserve", "submit", "settle")
RATE = 1000
#: Limits that bind at each level and are never reached.
LIMITS = {f"SOUK_LIMITS__{name}": "10000000000" for name in
          ("REQUESTS_PER_MINUTE", "INPUT_TOKENS_PER_MINUTE", "OUTPUT_TOKENS_PER_MINUTE", "TOKENS_PER_DAY")}
#: Six processes share the cores.
ONE_THREAD = {"SOUK_SERVER__THREADS": "1"}
#: All load comes from one address.
ONE_ADDRESS = {"SOUK_SERVER__MAX_CONNECTIONS_PER_ADDRESS": "16000", "SOUK_GATEWAY__MAX_IN_FLIGHT": "16000",
               "SOUK_QUEUE__MAX_QUEUED_PER_TENANT": "16000", "SOUK_QUEUE__MAX_QUEUED": "16000"}
ANSWERS = ["--api", "chat", "--prompt-tokens", "128", "--output-tokens", "8"]
STEP_MS = 10
#: Longer than a node takes to the next token of a stream that it runs.
AS_USUAL_S = 0.25


def costs(sitting):
    """Markdown with what a request and a stream take."""
    return "\n\n".join([rates(sitting), streams(sitting)])


def nodes(sitting):
    """Markdown with what running apart costs, and what a lost and a new node do."""
    return "\n\n".join([apart(sitting), failover(sitting), start(sitting)])


def rates(sitting):
    """The open loop, then LiteLLM's proxy beside it."""
    flags = ["--rate", str(RATE), *ANSWERS, "--duration-s", str(sitting.seconds(20, 2)), "--warm-up-s", str(sitting.seconds(5, 1)),
             "--max-in-flight", "4096"]
    kinds = {"streamed": [], "whole": ["--no-stream"]}
    costs, stages, results = {}, {}, {}
    with Fleet(sitting.souk, LIMITS | ONE_ADDRESS | ONE_THREAD) as fleet:
        fleet.scripted_node(sitting.executables["scripted"], STEP_MS)
        fleet.until_nodes(1)
        tenants = [fleet.tenant(f"tenant-{number}") for number in range(10)]
        shares = [word for number, key in enumerate(tenants) for word in ("--tenant", f"tenant-{number}:1={key}")]
        fleet.until_answered(tenants[0])
        for kind, more in kinds.items():
            was = {part.name: part.cpu_seconds() for part in fleet.parts}
            before = fleet.metrics()
            with Pings(fleet.redis_url) as pings:
                _, results[kind] = fleet.load(kind, *flags, *more, *shares)
            if results[kind]["failed"]:
                raise Failed(f"{kind}: {results[kind]['failed']} requests failed: {results[kind]['errors']}")
            # What is behind the answers is paid for too.
            time.sleep(2)
            after = fleet.metrics()
            num = count(after) - count(before)
            costs[kind] = {part.name: (part.cpu_seconds() - was[part.name]) / num * 1e3 for part in fleet.parts}
            stages[kind] = [*(stage_quantiles(before, after, stage) for stage in STAGES), pings.quantiles()]
        beside = beside_litellm.measure(sitting, fleet, shares, ANSWERS, STEP_MS)
    heads = [f"{kind}, {figure}" for kind in kinds for figure in ("p50", "p99")]
    of_stages = [[stage, *(f"{value:.3f}" for kind in kinds for value in stages[kind][place])]
                 for place, stage in enumerate([*STAGES, "a PING to Redis meanwhile"])]
    sums = [f"{sum(stage[place] for stage in stages[kind][:len(STAGES)]):.3f}" for kind in kinds for place in (0, 1)]
    of_stages.insert(len(STAGES), ["all, at most", *sums])
    of_parts = [[name, *(f"{costs[kind][name]:.3f}" for kind in kinds)] for name in costs["streamed"]]
    driver = [f"{results[kind]['driver_cpu_share'] / results[kind]['requests_per_s'] * 1e3:.3f}" for kind in kinds]
    answered = [[name, *(text(results[kind]) for kind in kinds)] for name, text in (
        ("answers/s", lambda one: f"{one['requests_per_s']:.0f}"), ("failed", lambda one: one["failed"]),
        ("first token p50 / p99, ms", lambda one: pair(one["latency"]["time_to_first_token"])),
        ("whole answer p50 / p99, ms", lambda one: pair(one["latency"]["total"])))]
    return "\n\n".join([
        f"An open loop of {RATE} requests a second (Poisson) of ten tenants with a limit on requests, tokens a minute and tokens a day, through "
        "a gateway, a registry on PostgreSQL, limits and queue in one Redis, and a node that runs no model: each answer has 8 tokens, one in "
        f"each step of {STEP_MS} ms. The load, the scripted node and all else share the two cores; gateway and registry have a thread each "
        "(`server.threads`).",
        table(["", *kinds], answered),
        table(["stage of the gateway, ms", *heads], of_stages),
        "The sum of percentiles is no less than the percentile of the sums. `reserve`, `submit` and `settle` each have one round trip to "
        "Redis in them. The last line is what a round trip takes at that time that asks for nothing.",
        table(["processor time for a request, ms", *kinds], [*of_parts, ["the load's driver", *driver]]),
        beside, shell([" ".join(["souk bench", *flags, *more, "--tenant …"]) for more in kinds.values()])])


def count(metrics):
    """Requests whose limits were reserved so far."""
    found = re.search(r'^souk_gateway_stage_seconds_count{stage="reserve"} (\d+)', metrics, re.M)
    # Absent before the first.
    return int(found[1]) if found else 0


def pair(figures):
    """Median and 99th percentile."""
    return f"{figures['p50_ms']:.1f} / {figures['p99_ms']:.1f}" if figures["count"] else "-"


def streams(sitting):
    """Memory by the number of open streams."""
    numbers = sitting.seconds((1000, 4000), (50, 200))
    with Fleet(sitting.souk, LIMITS | ONE_ADDRESS) as fleet:
        fleet.scripted_node(sitting.executables["scripted"], 1000)
        fleet.until_nodes(1)
        idle = fleet.gateway.resident_kib()
        key, rows = fleet.tenant("streams"), [["none", f"{idle / 1024:.0f}", "-"]]
        fleet.until_answered(key)
        held = []
        for number in numbers:
            was = fleet.gateway.resident_kib()
            new = number - (numbers[numbers.index(number) - 1] if held else 0)
            load = background_load(at_gateway(fleet), key, ["--users", str(new), "--prompt-tokens", "128", "--output-tokens", "2000"])
            load.__enter__()
            held.append(load)
            fleet.until("souk_gateway_in_flight_requests", lambda open_streams: open_streams >= number)
            # Each has had some tokens.
            time.sleep(sitting.seconds(5, 1))
            now = fleet.gateway.resident_kib()
            rows.append([number, f"{now / 1024:.0f}", f"{(now - was) / new:.1f}"])
        for load in held:
            load.__exit__(None, None, None)
    return "\n\n".join([
        "Memory of a gateway by streams that are open, each a connection of its own with a prompt of 128 tokens and a token a second:",
        table(["open streams", "resident, MiB", "KiB for each further one"], rows)])


def at_gateway(fleet):
    """Where `background_load` finds it."""
    return type("Target", (), {"souk": fleet.souk, "url": fleet.gateway_url})


def apart(sitting):
    """`souk serve` and a fleet of one node in turns, then three nodes."""
    flags = ["--users", "16", "--prompt-tokens", "128", "--output-tokens", "64", "--adapters", "admin/r8-{0..15}",
             "--duration-s", str(sitting.seconds(10, 2)), "--warm-up-s", str(sitting.seconds(2, 1))]
    names = [f"r8-{number}" for number in range(16)]
    with Server(sitting.souk) as whole, Fleet(sitting.souk) as fleet:
        for server in (whole, fleet):
            server.publish(names, 8, QUERY_VALUE)
        node = fleet.node(0, 2)
        fleet.until_nodes(1)
        rounds = []
        for turn in range(sitting.seconds(4, 1)):
            of = {}
            for server in ((whole, fleet) if turn % 2 else (fleet, whole)):
                command, result = server.load("apart", *flags)
                of[server] = result["tokens_out_per_s"]
            rounds.append((of[whole], of[fleet]))
        node.kill()
        for number in (1, 2, 3):
            fleet.node(number, 1)
        fleet.until_nodes(3)
        three = median([fleet.load("three", *flags)[1]["tokens_out_per_s"] for _ in range(sitting.seconds(2, 1))])
    ratios = sorted(there / here for here, there in rounds)
    rows = [["`souk serve`", f"{median([here for here, _ in rounds]):.0f}", "1"],
            ["gateway, registry, node of two threads, Redis, PostgreSQL", f"{median([there for _, there in rounds]):.0f}",
             f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"],
            ["the same with three nodes of one thread", f"{three:.0f}", f"{three / median([here for here, _ in rounds]):.2f}"]]
    return "\n\n".join([
        f"The same sixteen users with sixteen adapters, on the same two cores; {len(rounds)} turns, each the first as often as the other:",
        table(["", "tokens/s", "to `souk serve`, median of turns"], rows), shell([command])])


def failover(sitting):
    """Times from kill -9 of a node to the next token of what it ran."""
    prompt = "The quick brown fox jumps over the lazy dog. " * 49
    gaps = []
    with Fleet(sitting.souk) as fleet:
        fleet.publish(["warm"], 8, QUERY_VALUE)
        nodes = [fleet.node(number, 2) for number in range(2)]
        fleet.until_nodes(2)
        # Both have the adapter.
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda number: whole(fleet, f"{number} {prompt}", 8), range(16)))
        for turn in range(sitting.seconds(6, 1)):
            with ThreadPoolExecutor(4) as pool:
                answers = [fleet.stream(f"{turn} {number} {prompt}", 300, fleet.key, model="admin/warm") for number in range(4)]
                list(pool.map(lambda answer: answer.wait_for_text(), answers))
                times = [pool.submit(arrivals, answer) for answer in answers]
                time.sleep(0.5)
                victim = nodes[turn % 2]
                victim.kill()
                killed = time.monotonic()
                for arrived in [one.result() for one in times]:
                    after = [at - killed for at in arrived if at > killed]
                    # One that was over before is no concern of anybody.
                    gaps += after[:1]
            victim.start()
            fleet.until_nodes(2)
    # Those of the other node went on as if nothing had been.
    gaps.sort()
    lost = [gap for gap in gaps if gap > AS_USUAL_S] or gaps
    return (f"`kill -9` of one of two nodes of two threads (the default here) under four streams with an adapter that both hold, after prompts of about 500 tokens, "
            f"{sitting.seconds(6, 1)} times, settings by default: the next token of a stream that the dead node ran came after "
            f"{median(lost):.2f} s at the median and {lost[-1]:.2f} s at most ({len(lost)} streams); all {len(gaps)} answers were completed.")


def whole(fleet, prompt, max_tokens):
    """An answer to its end."""
    with fleet.stream(prompt, max_tokens, fleet.key, model="admin/warm") as answer:
        answer.wait_for_text()
        answer.read_to_end()


def arrivals(answer):
    """When each further piece came, of an answer that is complete."""
    times, lines = [], []
    while line := answer.response.readline():
        if line.startswith(b"data:"):
            lines.append(line.strip())
            times.append(time.monotonic())
    answer.close()
    if not lines or lines[-1] != b"data: [DONE]" or any(b'"error"' in line for line in lines):
        raise Failed(f"an answer broke off: {lines[-2:]}")
    return times


def start(sitting):
    """Times from a node's start to the first token of what waited for it."""
    took, shown = [], ""
    with Fleet(sitting.souk, {"SOUK_GATEWAY__WAIT_FOR_NODE_S": "60"}) as fleet:
        for turn in range(sitting.seconds(6, 2)):
            with ThreadPoolExecutor(1) as pool:
                answer = fleet.stream("Once upon a time", 4, fleet.key)
                first = pool.submit(lambda: (answer.wait_for_text(), time.monotonic())[1])
                fleet.until("souk_gateway_waiting_for_node_requests", lambda waiting: waiting == 1)
                node = fleet.node(turn, 2, says=None)
                took.append(first.result() - node.began)
                answer.read_to_end()
                answer.close()
            shown = node.until_it_says(r"The first job came after (.*)")[1]
            node.process.terminate()
            node.process.wait()
            fleet.until_nodes(0)
    return "\n\n".join([
        "A node is started while a request waits for one (`gateway.wait_for_node_s`), its base model in the cache: the request's first token "
        f"came {median(took):.2f} s after the node's process began at the median of {len(took)}, {max(took):.2f} s at most. The last one's own "
        "timeline:", f"```text\n{shown}\n```"])


def simulation(sitting):
    """`souk bench fleet` as it prints."""
    size = sitting.seconds(["--full"], ["--nodes", "20", "--adapters", "2000", "--duration-s", "10"])
    output = run([sitting.souk, "bench", "fleet", *size])
    return f"`souk bench fleet {' '.join(size)}`:\n\n```text\n{output.strip()}\n```"
