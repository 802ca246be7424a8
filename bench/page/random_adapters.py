"""Adapters made of random numbers, as PEFT folders, for measuring: what they say does not matter, what they cost does."""

import json
import os
import struct
from pathlib import Path

# SmolLM2-135M.
LAYERS, HIDDEN, KV, INNER = 30, 576, 192, 1536
BASE_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
MODULES = {
    "q_proj": ("self_attn", HIDDEN, HIDDEN),
    "k_proj": ("self_attn", HIDDEN, KV),
    "v_proj": ("self_attn", HIDDEN, KV),
    "o_proj": ("self_attn", HIDDEN, HIDDEN),
    "gate_proj": ("mlp", HIDDEN, INNER),
    "up_proj": ("mlp", HIDDEN, INNER),
    "down_proj": ("mlp", INNER, HIDDEN),
}
QUERY_VALUE = ["q_proj", "v_proj"]
ALL_LINEAR = list(MODULES)


def tensors(rank, targets):
    """Names and shapes of an adapter's tensors, in the file's order."""
    for layer in range(LAYERS):
        for target in targets:
            block, inputs, outputs = MODULES[target]
            prefix = f"base_model.model.model.layers.{layer}.{block}.{target}"
            yield f"{prefix}.lora_A.weight", [rank, inputs]
            yield f"{prefix}.lora_B.weight", [outputs, rank]


def random_bf16(count):
    """`count` bf16 numbers between 0.0005 and 0.008 of either sign."""
    noise = bytearray(os.urandom(2 * count))
    noise[1::2] = bytes(0x3B if byte & 1 else 0xBB for byte in noise[1::2])
    return bytes(noise)


def config(rank, targets):
    """adapter_config.json."""
    return json.dumps({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "bias": "none",
        "base_model_name_or_path": BASE_NAME, "target_modules": targets,
    }).encode()


def weights(rank, targets):
    """adapter_model.safetensors."""
    header, end = {}, 0
    for name, shape in tensors(rank, targets):
        begin, end = end, end + 2 * shape[0] * shape[1]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + random_bf16(end // 2)


def write(folder, rank, targets):
    """Writes a PEFT folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_bytes(config(rank, targets))
    (folder / "adapter_model.safetensors").write_bytes(weights(rank, targets))
