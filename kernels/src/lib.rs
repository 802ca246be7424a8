//! Numeric ops for llama-family models on the CPU: quantised matmul, grouped LoRA, attention and the small ops between them.
