"""The same users through HTTP and in process, in turns: what gateway, queue, sockets and the driver of the load take."""

from server import Server
from sitting import QUERY_VALUE, median, shell, table

LOADS = (("base", []), ("16 adapters r=8 q,v", ["--adapters", "admin/r8-{0..15}"]))


def measure(sitting):
    """Markdown with the ratios."""
    flags = ["--users", "16", "--prompt-tokens", "128", "--output-tokens", "64",
             "--duration-s", str(sitting.seconds(10, 2)), "--warm-up-s", str(sitting.seconds(3, 1))]
    inside, outside, driver, commands = [[], []], [[], []], [[], []], []
    for _ in range(sitting.seconds(3, 1)):
        for place, figures in enumerate(sitting.figures("engine", "users")):
            inside[place].append(figures["tokens_per_second"])
        with Server(sitting.souk) as server:
            server.publish([f"r8-{number}" for number in range(16)], 8, QUERY_VALUE)
            for place, (name, adapters) in enumerate(LOADS):
                command, result = server.load(name, *flags, *adapters)
                outside[place].append(result["tokens_out_per_s"])
                driver[place].append(result["driver_cpu_share"])
                commands.append(command)
    rows = [(name, f"{median(inside[place]):.0f}", f"{median(outside[place]):.0f}",
             f"{median(outside[place]) / median(inside[place]):.2f}", f"{median(driver[place]):.3f}")
            for place, (name, _) in enumerate(LOADS)]
    return "\n\n".join([
        "Sixteen users, each with one request after the other of 128 tokens of prompt and 64 of answer, on the engine itself "
        f"and through HTTP with streaming; medians of {len(inside[0])} rounds that take turns, each with a server of its own. "
        "The driver of the load runs on the same cores; the last column is the part of one core that it took.",
        table(["16 users", "in process, tokens/s", "through HTTP, tokens/s", "ratio", "driver, cores"], rows),
        shell(["cargo bench -p souk-bench --bench engine -- --only users", *commands]),
    ])
