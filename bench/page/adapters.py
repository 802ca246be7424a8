"""What adapters cost while they come and go."""


def measure(sitting):
    """Markdown: loads, cold first tokens, the pace of others, and more adapters than fit."""
    return sitting.bench("adapters")
