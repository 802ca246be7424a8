"""An older executable beside this one, in turns: whether a load through HTTP has become slower."""

from server import Server
from sitting import ALL_LINEAR, QUERY_VALUE, median, shell, table

TURNS = 4
LOADS = [
    ("1 user, base", "--users", "1"),
    ("16 users, base", "--users", "16"),
    ("16 users, 16 adapters r=8 q,v", "--users", "16", "--adapters", "admin/r8-{0..15}"),
    ("16 users, 16 adapters r=16 all linear", "--users", "16", "--adapters", "admin/r16-{0..15}"),
]
LENGTHS = ["--prompt-tokens", "128", "--output-tokens", "64"]


def measure(sitting, before):
    """Markdown with the ratios. Both servers are driven by this executable's `souk bench`."""
    turns = sitting.seconds(TURNS, 1)
    times = ["--duration-s", str(sitting.seconds(8, 2)), "--warm-up-s", str(sitting.seconds(2, 1))]
    rows, commands = [], []
    with Server(before) as old, Server(sitting.souk) as new:
        old.souk = sitting.souk
        for server in (old, new):
            server.publish([f"r8-{n}" for n in range(16)], 8, QUERY_VALUE)
            server.publish([f"r16-{n}" for n in range(16)], 16, ALL_LINEAR)
        for name, *flags in LOADS:
            pairs = []
            for turn in range(turns):
                # A machine that slows down meanwhile is nobody's fault, so each is the first as often as the other.
                both_ways = (old, new) if turn % 2 == 0 else (new, old)
                results = {}
                for server in both_ways:
                    command, results[server] = server.load(name, *flags, *LENGTHS, *times)
                pairs.append((results[old], results[new]))
            commands.append(f"# {name}\n{command}")
            rows.append(row(name, pairs))
    return "\n\n".join([
        f"Medians of {turns} turns, before and now; a ratio is the median of those of the turns, and the range of them is beside it.",
        table(["load", "tokens/s", "now / before", "first token p50, ms", "now / before", "failed"], rows),
        shell(commands),
    ])


def row(name, pairs):
    """A line of the table from results of a load before and now."""
    rate = lambda result: result["tokens_out_per_s"]
    first = lambda result: result["latency"]["time_to_first_token"]["p50_ms"]
    failed = sum(was["failed"] + now["failed"] for was, now in pairs)
    return (name, both(pairs, rate, "{:.0f}"), ratio(pairs, rate), both(pairs, first, "{:.1f}"), ratio(pairs, first), failed)


def both(pairs, figure, form):
    """The medians of a figure before and now."""
    return ", ".join(form.format(median([figure(pair[place]) for pair in pairs])) for place in (0, 1))


def ratio(pairs, figure):
    """The median ratio of a figure, of an even number of them the upper of the two in the middle, with its range."""
    ratios = sorted(figure(now) / figure(was) for was, now in pairs)
    return f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
