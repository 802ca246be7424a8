"""Writes random LoRA adapters in llama.cpp's format: `lora_gguf.py FOLDER COUNT RANK TARGET,TARGET`."""

import sys
from pathlib import Path

import gguf
import numpy

# SmolLM2-135M.
LAYERS, HIDDEN, KV, INNER = 30, 576, 192, 1536
#: llama.cpp's name of each matrix, and its inputs and outputs.
MODULES = {
    "q_proj": ("attn_q", HIDDEN, HIDDEN),
    "k_proj": ("attn_k", HIDDEN, KV),
    "v_proj": ("attn_v", HIDDEN, KV),
    "o_proj": ("attn_output", HIDDEN, HIDDEN),
    "gate_proj": ("ffn_gate", HIDDEN, INNER),
    "up_proj": ("ffn_up", HIDDEN, INNER),
    "down_proj": ("ffn_down", INNER, HIDDEN),
}


def main(folder, count, rank, targets):
    numbers = numpy.random.default_rng(1)
    for number in range(count):
        writer = gguf.GGUFWriter(Path(folder) / f"{number:03}.gguf", "llama")
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 2.0 * rank)
        for layer in range(LAYERS):
            for target in targets:
                name, inputs, outputs = MODULES[target]
                for half, shape in (("lora_a", (rank, inputs)), ("lora_b", (outputs, rank))):
                    weights = numbers.normal(0.0, 0.004, shape).astype(numpy.float16)
                    writer.add_tensor(f"blk.{layer}.{name}.weight.{half}", weights)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].split(","))
