"""The engine's own benchmark, with what its tables mean."""


def throughput(sitting):
    """Markdown: prefill and decode, base and with adapters."""
    return "\n\n".join([
        sitting.bench("engine", "--only", "throughput,contexts"),
        "A decode figure at n sequences deals the adapters out in turn, so `decode 4` has four different ones and `decode 32` of "
        "25 uses seven of them twice.",
    ])


def rows(sitting):
    """Markdown: a step by its rows, and speculation."""
    return "\n\n".join([
        sitting.bench("engine", "--only", "rows,speculation"),
        "A draft has at most `engine.max_speculative_tokens` tokens, each a row. One that is accepted saves a step of one row; "
        "one that is rejected costs what the first table adds for its row.",
    ])


def profile(sitting):
    """Markdown: where the time of a step goes."""
    return "\n\n".join([
        sitting.bench("engine", "--only", "profile"),
        "The bound of an op is the longer of its bytes by the read bandwidth and its int8 operations by the peak; activations "
        "have two planes of int8, so each weight counts as four operations per row. Shrink and expand are within the "
        "products that they act on. The bound of attention counts the bytes of K and V alone, without exponentials and "
        "conversions, so it says nothing in prefill. What is missing at one sequence is the start and end of 150 short products, "
        "and attention, which below 512 tokens splits over three key-value heads and so is shared two to one by two threads; at "
        "sixteen and in prefill it is attention, and that a fifth of what the multiplying units do in a product is not dot "
        "products (docs/kernels.md).",
    ])
