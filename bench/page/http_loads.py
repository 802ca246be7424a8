"""Loads through HTTP on `souk serve`: the standing set."""

from server import Server
from sitting import ALL_LINEAR, QUERY_VALUE, shell, table

#: Room for 64 adapters of rank 8 on queries and values, 0.88 MiB each.
ROOM_FOR_64 = {"SOUK_ADAPTERS__DEVICE_MB": "58", "SOUK_ADAPTERS__HOST_MB": "128"}
HEAD = ["load", "tokens/s", "first token p50 / p99, ms", "between tokens p50 / p99, ms", "failed"]


def measure(sitting):
    """Runs the set and returns it as Markdown."""
    rows, commands = [], []
    # Every load streams and lets no answer end early.
    times = ["--duration-s", str(sitting.seconds(12, 2)), "--warm-up-s", str(sitting.seconds(3, 1))]

    def load(server, name, *flags, prompt=128, output=64):
        lengths = ["--prompt-tokens", str(prompt), "--output-tokens", str(output)]
        command, result = server.load(name, *flags, *lengths, *times)
        rows.append(row(name, result))
        commands.append(f"# {name}\n{command}")
        return result

    with Server(sitting.souk) as server:
        server.publish([f"r8-{n}" for n in range(16)], 8, QUERY_VALUE)
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
                      *(flag for share in shares for flag in ("--tenant", share)), prompt=32, output=32)
        for _, key in tenants:
            commands[-1] = commands[-1].replace(key, "KEY")
        fairness = result["fairness"]["index"]
    count = sitting.seconds(1000, 100)
    with Server(sitting.souk, ROOM_FOR_64) as server:
        server.publish([f"z{n:03}" for n in range(count)], 8, QUERY_VALUE)
        few = load(server, "32 users, 25 adapters", "--users", "32", "--adapters", "admin/z{000..024}")
        many = load(server, f"32 users, {count} adapters, Zipf 1.0, cold, room for 64", "--users", "32",
                    "--adapters", f"admin/z{{000..{count - 1:03}}}", "--zipf", "1.0", "--adapter-state", "cold")
    ratio = many["tokens_out_per_s"] / few["tokens_out_per_s"]
    return "\n\n".join([
        table(HEAD, rows),
        f"{count} adapters give {ratio:.2f} of 25 resident ones. Fairness index of the two tenants: {fairness:.3f} (Jain; 1 is even).",
        "These loads read three rows for each token that they get (128 of a prompt for 64 of an answer), so they are not to be "
        "compared with decode figures.",
        shell(commands),
    ])


def row(name, result):
    """A line of the table."""
    latency = result["latency"]
    pair = lambda figures: f"{figures['p50_ms']:.0f} / {figures['p99_ms']:.0f}" if figures["count"] else "-"
    return (name, f"{result['tokens_out_per_s']:.0f}", pair(latency["time_to_first_token"]), pair(latency["between_chunks"]),
            result["failed"])
