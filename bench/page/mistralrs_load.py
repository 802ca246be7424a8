"""mistral.rs in process, through its own Python package: tokens per second of one and of sixteen sequences, and of prefill.

Run as `mistralrs_load.py MODEL.gguf` with RAYON_NUM_THREADS set; prints JSON. The package runs one request at a time and
refuses a second thread (`Already borrowed`), so sixteen sequences can only be the choices of one request.
"""

import json
import sys
import time
from pathlib import Path

from mistralrs import CompletionRequest, Runner, Which


def main(model, quick):
    model = Path(model)
    output_tokens, repetitions = (4, 1) if quick else (64, 2)
    runner = Runner(Which.GGUF(quantized_model_id=str(model.parent), quantized_filename=model.name), max_seqs=16)

    def complete(prompt, max_tokens, sequences=1):
        request = CompletionRequest(prompt=prompt, model="default", max_tokens=max_tokens, n_choices=sequences,
                                    temperature=0.0, ignore_eos=True)
        begin = time.monotonic()
        usage = runner.send_completion_request(request).usage
        return usage, time.monotonic() - begin

    complete("Once", 4)
    figures, failures = {}, {}
    for sequences in (1, 16):
        name = f"decode {sequences}"
        try:
            times = [complete(f"{number} Once upon a time", output_tokens, sequences)[1] for number in range(repetitions)]
            figures[name] = sequences * output_tokens / min(times)
        except ValueError as error:
            failures[name] = str(error)
    usage, took = complete("many words of no great sense " * (4 if quick else 84), 1)
    figures["prefill 512"] = usage.prompt_tokens / took
    print(json.dumps(figures | {"failures": failures}))


main(sys.argv[1], "--quick" in sys.argv[2:])
