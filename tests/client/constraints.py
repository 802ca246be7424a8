"""Answers of a given form through the official client, beside free ones and with an adapter."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import openai
from common import BASE, client, expect_error
from pydantic import BaseModel, Field

api = client()
QUESTION = [{"role": "user", "content": "Name a large city and how many people live there."}]
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "people": {"type": "integer", "minimum": 0, "maximum": 99999999},
        "coastal": {"type": "boolean"},
    },
    "required": ["city", "people", "coastal"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": SCHEMA}}


class City(BaseModel):
    city: str = Field(max_length=20)
    coastal: bool


def check(text):
    value = json.loads(text)
    assert set(value) == {"city", "people", "coastal"}, value
    assert isinstance(value["city"], str) and len(value["city"]) <= 20, value
    assert isinstance(value["people"], int) and 0 <= value["people"] <= 99999999, value
    assert isinstance(value["coastal"], bool), value


def chat(model=BASE, **options):
    options.setdefault("max_tokens", 120)
    return api.chat.completions.create(model=model, messages=QUESTION, **options)


def a_schema_holds_in_a_mixed_batch_with_an_adapter_and_at_any_temperature():
    free = chat(temperature=0, max_tokens=24).choices[0].message.content
    with ThreadPoolExecutor(12) as pool:
        constrained = [
            pool.submit(chat, model, response_format=FORMAT, temperature=temperature, seed=seed)
            for seed in range(2)
            for temperature in (0, 1)
            for model in (BASE, "admin/sst2")
        ]
        beside = [pool.submit(chat, temperature=0, max_tokens=24) for _ in range(4)]
        for answer in constrained:
            choice = answer.result().choices[0]
            assert choice.finish_reason == "stop", choice
            check(choice.message.content)
        for answer in beside:
            assert answer.result().choices[0].message.content == free


def choices_and_streams():
    answer = chat(response_format=FORMAT, n=3, seed=5)
    for choice in answer.choices:
        check(choice.message.content)
    options = {"response_format": FORMAT, "temperature": 0}
    chunks = chat(stream=True, **options)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    check(text)
    assert text == chat(**options).choices[0].message.content


def pydantic_models_are_parsed():
    answer = api.chat.completions.parse(model=BASE, messages=QUESTION, response_format=City, max_tokens=200)
    assert isinstance(answer.choices[0].message.parsed, City), answer


def vllms_names():
    def text(**extra):
        return chat(extra_body=extra, seed=1).choices[0].message.content

    assert text(guided_choice=["Berlin", "Paris"]) in ("Berlin", "Paris")
    assert re.fullmatch(r"[A-Z][a-z]{2,8}: [0-9]{1,3}", text(guided_regex=r"[A-Z][a-z]{2,8}: [0-9]{1,3}"))
    assert re.fullmatch(r"(ab){1,4}!", text(guided_grammar='start: "ab"{1,4} "!"', priority=200))
    check(text(guided_json=SCHEMA))
    check(text(structured_outputs={"json": json.dumps(SCHEMA)}))
    answer = api.completions.create(model="admin/sst2", prompt="A fine film.\nSentiment:", max_tokens=8,
                                    extra_body={"guided_choice": [" positive", " negative"]})
    assert answer.choices[0].text in (" positive", " negative"), answer


def lengths_and_tiers():
    answer = chat(response_format=FORMAT, max_tokens=4, service_tier="flex")
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 4, answer


def refusals():
    def refused(param, contains=(), code="invalid_value", stream=False, **options):
        expect_error(openai.BadRequestError, lambda: chat(stream=stream, **options), status=400, param=param,
                     code=code, contains=contains)

    refused("guided_choice", extra_body={"guided_regex": "a", "guided_choice": ["a"]}, contains=["guided_regex"])
    for stream in (False, True):
        refused("guided_regex", extra_body={"guided_regex": "a("}, code="invalid_constraint", stream=stream)
        refused("guided_grammar", extra_body={"guided_grammar": "start: absent"}, code="invalid_constraint", stream=stream)
    impossible = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "thing"}}}
    refused("response_format.json_schema.schema", response_format=impossible, code="invalid_constraint")
    refused("ignore_eos", response_format=FORMAT, extra_body={"ignore_eos": True})
    refused("priority", extra_body={"priority": 0})


a_schema_holds_in_a_mixed_batch_with_an_adapter_and_at_any_temperature()
choices_and_streams()
pydantic_models_are_parsed()
vllms_names()
lengths_and_tiers()
refusals()
