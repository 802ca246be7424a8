"""Loads through HTTP on `souk serve`: the standing set."""

from random_adapters import ALL_LINEAR, QUERY_VALUE
from server import Server

#: Every load streams and lets no answer end early.
COMMON = ["--prompt-tokens", "128", "--output-tokens", "64", "--duration-s", "20", "--warm-up-s", "4"]
#: Room for 64 adapters of rank 8 on queries and values, 0.88 MiB each.
ROOM_FOR_64 = {"SOUK_ADAPTERS__DEVICE_MB": "58", "SOUK_ADAPTERS__HOST_MB": "128"}


def measure(souk):
    """Runs the set and returns it as Markdown."""
    rows, commands = [], []

    def load(server, name, *flags):
        command, result = server.load(name, *flags, *COMMON)
        rows.append(row(name, result))
        commands.append(f"# {name}\n{command}")
        return result

    with Server(souk) as server:
        server.publish([f"r8-{n}" for n in range(25)], 8, QUERY_VALUE)
        server.publish([f"r16-{n}" for n in range(16)], 16, ALL_LINEAR)
        load(server, "16 users, base", "--users", "16")
        load(server, "16 users, 16 adapters r=8 q,v", "--users", "16", "--adapters", "admin/r8-{0..15}")
        load(server, "16 users, 16 adapters r=16 all linear", "--users", "16", "--adapters", "admin/r16-{0..15}")
        load(server, "1 user, base", "--users", "1")
        load(server, "2 requests/s, Poisson, 16 adapters r=8", "--rate", "2", "--adapters", "admin/r8-{0..15}")
        # More users than the batch has places, so that places are what is shared.
        tenants = [(name, server.tenant(name)) for name in ("few", "many")]
        shares = [f"{name}:{users}={key}" for (name, key), users in zip(tenants, (32, 96))]
        result = load(server, "two tenants, 32 and 96 of 128 users", "--users", "128",
                      *(flag for share in shares for flag in ("--tenant", share)))
        commands[-1] = commands[-1].replace(tenants[0][1], "KEY").replace(tenants[1][1], "KEY")
        fairness = result["fairness"]["index"]
    with Server(souk, ROOM_FOR_64) as server:
        server.publish([f"z{n:03}" for n in range(1000)], 8, QUERY_VALUE)
        few = load(server, "32 users, 25 adapters", "--users", "32", "--adapters", "admin/z{000..024}")
        many = load(server, "32 users, 1,000 adapters, Zipf 1.0, cold, room for 64", "--users", "32", "--adapters",
                    "admin/z{000..999}", "--zipf", "1.0", "--adapter-state", "cold")
    header = "| load | tokens/s | first token p50 / p99, ms | between tokens p50 / p99, ms | failed |\n| --- | ---: | ---: | ---: | ---: |"
    ratio = many["tokens_out_per_s"] / few["tokens_out_per_s"]
    return "\n".join([header, *rows, "",
                      f"1,000 adapters give {ratio:.2f} of 25 resident ones. Fairness index of the two tenants: {fairness:.3f} (Jain; 1 is even).",
                      "", "```sh", *commands, "```"])


def row(name, result):
    latency = result["latency"]
    first, between = latency["time_to_first_token"], latency["between_chunks"]
    pair = lambda figures: f"{figures['p50_ms']:.0f} / {figures['p99_ms']:.0f}" if figures["count"] else "-"
    return f"| {name} | {result['tokens_out_per_s']:.0f} | {pair(first)} | {pair(between)} | {result['failed']} |"
