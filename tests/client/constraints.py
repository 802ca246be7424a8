"""Answers of a given form through the official client, beside free ones and with an adapter."""

import json
import re
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import openai
from common import BASE, URL, client, expect_error
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


def with_everything_else():
    code = {"guided_regex": r"[A-Z]{4,6}-[0-9]{3}"}
    # Logprobs are those of what was said, one entry for each token of the text.
    answer = chat(extra_body=code, logprobs=True, top_logprobs=2, n=2, temperature=1, seed=3)
    for choice in answer.choices:
        assert re.fullmatch(code["guided_regex"], choice.message.content), choice
        said = choice.logprobs.content
        assert "".join(token.token for token in said) == choice.message.content, choice
        assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in said), said
    # A stop string ends the answer where it stands, complete or not; its text is not sent.
    whole = chat(extra_body=code, temperature=0).choices[0].message.content
    for stream in (False, True):
        stopped = chat(extra_body=code, temperature=0, stop=["-"], stream=stream)
        if stream:
            chunks = [chunk.choices[0] for chunk in stopped if chunk.choices]
            text, reason = "".join(chunk.delta.content or "" for chunk in chunks), chunks[-1].finish_reason
        else:
            text, reason = stopped.choices[0].message.content, stopped.choices[0].finish_reason
        assert (text, reason) == (whole.split("-")[0], "stop"), (text, reason, whole)
    # A cut answer is a beginning of the whole one.
    chunks = [chunk.choices[0] for chunk in chat(extra_body=code, temperature=0, max_tokens=3, stream=True) if chunk.choices]
    text = "".join(chunk.delta.content or "" for chunk in chunks)
    assert whole.startswith(text) and text != whole and chunks[-1].finish_reason == "length", (text, whole)


def an_answer_that_is_given_up_leaves_no_trace():
    endless = {"guided_regex": "(na )+"}
    free = chat(temperature=0, max_tokens=24).choices[0].message.content
    streams = [chat(extra_body=endless, max_tokens=5000, stream=True, seed=seed) for seed in range(3)]
    for stream in streams:
        next(iter(stream))
    for stream in streams:
        stream.close()
    end = time.monotonic() + 10
    while metric("souk_engine_running") > 0:
        assert time.monotonic() < end, "given up answers still run"
        time.sleep(0.02)
    assert chat(temperature=0, max_tokens=24).choices[0].message.content == free
    check(chat(response_format=FORMAT).choices[0].message.content)


def metric(name):
    with urllib.request.urlopen(f"{URL}/metrics") as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def what_explodes_ends_alone():
    with ThreadPoolExecutor(4) as pool:
        beside = [pool.submit(chat, response_format=FORMAT, seed=seed) for seed in range(3)]
        try:
            # Letters that may be left out, behind others: more work for one token than is allowed.
            chat(extra_body={"guided_regex": "x{20}" + "a?" * 690}, max_tokens=60)
            raise AssertionError("it has no end within its limits")
        except openai.BadRequestError as error:
            assert error.body["param"] == "guided_regex" and "too complex" in error.body["message"], error.body
            assert error.body["code"] in ("constraint_limit_exceeded", "invalid_constraint"), error.body
        for answer in beside:
            check(answer.result().choices[0].message.content)


def hostile():
    """Each gives a right answer, or a refusal that names the field."""
    def text(**extra):
        return chat(extra_body=extra, seed=2, max_tokens=60).choices[0]

    def refused(field, value, contains, code="invalid_constraint"):
        expect_error(openai.BadRequestError, lambda: text(**{field: value}), status=400, param=field, code=code,
                     contains=["'" + field, contains])

    tree = {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}},
                                                 "additionalProperties": False}}}
    choice = text(guided_json=tree)
    assert choice.finish_reason == "length" or set(json.loads(choice.message.content)) <= {"n"}, choice
    numbers = [f"value {number}" for number in range(3000)]
    assert json.loads(text(guided_json={"enum": numbers}).message.content) in numbers
    choice = text(guided_json={"type": ["integer", "null"], "minimum": 0, "maximum": 9})
    assert json.loads(choice.message.content) in [None, *range(10)], choice
    choice = text(guided_json={"type": "object", "patternProperties": {"^n[0-9]$": {"type": "integer"}},
                               "minProperties": 1, "maxProperties": 1, "additionalProperties": False})
    assert choice.finish_reason == "length" or re.fullmatch(r"n[0-9]", *json.loads(choice.message.content)), choice
    for schema, contains in (
        ({"$ref": "https://example.com/schema.json"}, "Only absolute $ref's (#/...) are supported"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "string", "minLength": 9, "maxLength": 3}, "minLength (9)"),
        ({"type": "integer", "multipleOf": 4e9}, "multipleOf may be at most"),
        ({"type": "integer", "multipleOf": 999983}, "too complex"),
        ({"enum": []}, "empty"),
        ({"$ref": "#"}, "no text meets it"),
    ):
        refused("guided_json", schema, contains)
    assert text(guided_choice=["yes", "yes"]).message.content == "yes"
    assert text(guided_choice=[str(number) for number in range(1024)]).message.content in map(str, range(1024))
    refused("guided_choice", [str(number) for number in range(10000)], "1 to 1024 entries; given 10000", "invalid_value")
    refused("guided_choice", [], "given 0", "invalid_value")
    for regex, contains in (("(a)\\1", "backreferences"), ("(?=a)a", "look-around"), ("a^b", "lookarounds"),
                            ("[^\\s\\S]", "no text meets it"), ("\\p{Nope}", "not found"),
                            ("x" + "a?" * 5000, "ways on from optional parts")):
        refused("guided_regex", regex, contains)
    assert text(guided_regex="^(ja|nein)$").message.content in ("ja", "nein")
    assert re.fullmatch(r"[α-ω]{3}", text(guided_regex="[α-ω]{3}").message.content)
    for grammar, contains in (("start: (", "Expected"), ("rule: \"a\"", "no start rule"), ("start: start \"a\"", "no text"),
                              ("root ::= \"a\"", "rules are written `name: …`"), ("start: A\nA: A", "circular")):
        refused("guided_grammar", grammar, contains)
    assert re.fullmatch("ba*", text(guided_grammar='start: start "a" | "b"').message.content)
    # One constraint of each kind beside another.
    for first, second in (("guided_json", "guided_choice"), ("guided_regex", "structured_outputs")):
        values = {"guided_json": {}, "guided_choice": ["a"], "guided_regex": "a", "structured_outputs": {"json": {}}}
        try:
            text(**{first: values[first], second: values[second]})
            raise AssertionError(f"{first} and {second}")
        except openai.BadRequestError as error:
            assert error.body["param"].startswith(second) and first in error.body["message"], error.body


a_schema_holds_in_a_mixed_batch_with_an_adapter_and_at_any_temperature()
choices_and_streams()
pydantic_models_are_parsed()
vllms_names()
lengths_and_tiers()
refusals()
with_everything_else()
an_answer_that_is_given_up_leaves_no_trace()
what_explodes_ends_alone()
hostile()
