"""Writes random LoRA adapters in llama.cpp's format: `lora_gguf.py FOLDER COUNT RANK TARGET,TARGET`."""

import sys
from pathlib import Path

import gguf
import numpy

import random_adapters

NAMES = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
         "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}


def main(folder, count, rank, targets):
    numbers = numpy.random.default_rng(1)
    for number in range(count):
        writer = gguf.GGUFWriter(Path(folder) / f"{number:03}.gguf", "llama")
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 2.0 * rank)
        for layer in range(random_adapters.LAYERS):
            for target in targets:
                _, inputs, outputs = random_adapters.MODULES[target]
                for half, shape in (("lora_a", (rank, inputs)), ("lora_b", (outputs, rank))):
                    weights = numbers.normal(0.0, 0.004, shape).astype(numpy.float16)
                    writer.add_tensor(f"blk.{layer}.{NAMES[target]}.weight.{half}", weights)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].split(","))
