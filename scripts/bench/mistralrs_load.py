"""mistral.rs in process, through its own Python package: tokens per second of one and of sixteen sequences, and of prefill.

Run as `mistralrs_load.py MODEL.gguf` with RAYON_NUM_THREADS set; prints JSON.
"""

import json
import sys
import time
from pathlib import Path

from mistralrs import CompletionRequest, Runner, Which

OUTPUT_TOKENS = 64


def main(model):
    model = Path(model)
    runner = Runner(Which.GGUF(quantized_model_id=str(model.parent), quantized_filename=model.name), max_seqs=16)

    def complete(prompt, max_tokens, sequences=1):
        # The package runs one request at a time, so a batch is one request with several choices.
        request = CompletionRequest(prompt=prompt, model="default", max_tokens=max_tokens, n_choices=sequences,
                                    temperature=0.0, ignore_eos=True)
        return runner.send_completion_request(request).usage

    complete("Once", 4)
    figures, failures = {}, {}
    for sequences in (1, 16):
        best = 0.0
        for repetition in range(2):
            begin = time.monotonic()
            try:
                complete(f"{repetition} Once upon a time", OUTPUT_TOKENS, sequences)
            except ValueError as error:
                failures[f"decode_{sequences}"] = str(error)
                break
            best = max(best, sequences * OUTPUT_TOKENS / (time.monotonic() - begin))
        if best:
            figures[f"decode_{sequences}"] = best
    best = 0.0
    for repetition in range(3):
        prompt = f"{repetition} " + "many words of no great sense " * 84
        begin = time.monotonic()
        usage = complete(prompt, 1)
        best = max(best, usage.prompt_tokens / (time.monotonic() - begin))
    figures["prefill_512"] = best
    print(json.dumps(figures | {"failures": failures}))


main(sys.argv[1])
