"""What the hook is configured with."""

from souk_hook import configuration


def name():
    return configuration().get("name", "nobody")
