"""What the hook is configured with."""

from souk_hook import configuration


def pairs():
    """The words, each with what stands in its place."""
    config = configuration()
    return [(word, config.get("mark", "[redacted]")) for word in config.get("words", [])]
