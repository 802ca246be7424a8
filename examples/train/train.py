"""Trains a LoRA adapter for SmolLM2-135M-Instruct with PEFT, on a CPU in some minutes.

    python train.py tickets.train.jsonl tickets.valid.jsonl tickets

Each line of the two files is {"prompt": "what a user says", "completion": "what the model should answer"}. The adapter is
written to the folder that comes last, as `souk push` takes it.
"""

import argparse
import json
import random
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
IGNORED = -100  # positions with this label are not learned


def read(path):
    with open(path) as lines:
        return [json.loads(line) for line in lines if line.strip()]


def prompt_ids(tokenizer, text):
    """A user's message as Souk renders it: with the base model's own chat template."""
    messages = [{"role": "user", "content": text}]
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer(rendered, add_special_tokens=False).input_ids


def encode(tokenizer, example):
    """Token ids and labels: the answer and the token that ends it are learned, the prompt is only read."""
    prompt = prompt_ids(tokenizer, example["prompt"])
    answer = tokenizer(example["completion"], add_special_tokens=False).input_ids + [tokenizer.eos_token_id]
    return prompt + answer, [IGNORED] * len(prompt) + answer


def batch(encoded, pad_id):
    """Rows of one length, filled up on the right."""
    length = max(len(ids) for ids, _ in encoded)
    fill = lambda row, value: row + [value] * (length - len(row))
    return {
        "input_ids": torch.tensor([fill(ids, pad_id) for ids, _ in encoded]),
        "attention_mask": torch.tensor([fill([1] * len(ids), 0) for ids, _ in encoded]),
        "labels": torch.tensor([fill(labels, IGNORED) for _, labels in encoded]),
    }


def train(model, examples, pad_id, epochs, batch_size, learning_rate):
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.0)
    num_steps = epochs * -(-len(examples) // batch_size)
    # Up over the first tenth of the steps, then down to zero in a straight line.
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / max(1, num_steps // 10), (num_steps - step) / num_steps)
    )
    model.train()
    shuffle = random.Random(0)
    for epoch in range(epochs):
        shuffle.shuffle(examples)
        start, losses = time.time(), []
        for first in range(0, len(examples), batch_size):
            loss = model(**batch(examples[first : first + batch_size], pad_id)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {epochs}: loss {sum(losses) / len(losses):.3f}, {time.time() - start:.0f} s", flush=True)


@torch.no_grad()
def share_right(model, tokenizer, examples):
    """How many of the answers are exactly right, of one."""
    model.eval()
    right = 0
    for example in examples:
        ids = torch.tensor([prompt_ids(tokenizer, example["prompt"])])
        answer = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )
        text = tokenizer.decode(answer[0, ids.shape[1] :], skip_special_tokens=True)
        right += text.strip() == example["completion"].strip()
    return right / len(examples)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("train", help="examples to learn from")
    arguments.add_argument("valid", help="examples to measure with")
    arguments.add_argument("out", help="folder of the adapter")
    arguments.add_argument("--base", default=BASE, help="the base model: its hub id, or a folder that holds the same model")
    arguments.add_argument("--epochs", type=int, default=4)
    arguments.add_argument("--batch-size", type=int, default=8)
    arguments.add_argument("--learning-rate", type=float, default=2e-3)
    arguments.add_argument("--rank", type=int, default=8)
    given = arguments.parse_args()

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(given.base)
    # In float32: a CPU without bfloat16 instructions is many times slower in the model's own type.
    model = AutoModelForCausalLM.from_pretrained(given.base).float()
    # What PEFT writes down as the base: which model this is and not where it lay. Souk compares it with its own.
    model.name_or_path = model.config._name_or_path = BASE
    config = LoraConfig(
        r=given.rank, lora_alpha=2 * given.rank, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, config)
    model.print_trainable_parameters()

    examples = [encode(tokenizer, example) for example in read(given.train)]
    valid = read(given.valid)
    print(f"before: {share_right(model, tokenizer, valid):.0%} of {len(valid)} answers right", flush=True)
    train(model, examples, tokenizer.eos_token_id, given.epochs, given.batch_size, given.learning_rate)
    print(f"after: {share_right(model, tokenizer, valid):.0%} of {len(valid)} answers right", flush=True)

    model.save_pretrained(given.out)
    print(f"The adapter is in {given.out}")


if __name__ == "__main__":
    main()
