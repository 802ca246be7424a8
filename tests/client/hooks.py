"""Calls that hooks act on, one stage at a time, through the official client."""

import os

import openai
from common import BASE, client, expect_error

api = client()
QUESTION = [{"role": "user", "content": "What is the capital of Germany?"}]
OPTIONS = {"model": BASE, "messages": QUESTION, "temperature": 0, "max_tokens": 32}


def whole():
    return api.chat.completions.create(**OPTIONS)


def streamed():
    chunks = list(api.chat.completions.create(stream=True, stream_options={"include_usage": True}, **OPTIONS))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    return texts, reasons[-1], chunks[-1].usage


def replaced():
    answer = whole()
    content = answer.choices[0].message.content
    assert "Bonn" in content and "Berlin" not in content, content
    texts, reason, usage = streamed()
    assert "".join(texts) == content and reason == answer.choices[0].finish_reason
    assert usage.completion_tokens == answer.usage.completion_tokens


def answered():
    answer = whole()
    assert answer.choices[0].message.content == "said by a hook" and answer.usage.total_tokens == 0
    texts, reason, usage = streamed()
    assert "".join(texts) == "said by a hook" and reason == "stop" and usage.total_tokens == 0


def refused():
    for call in (whole, streamed):
        expect_error(openai.UnprocessableEntityError, call, status=422, code="hook_refused", contains=["not this"])


def failed():
    for call in (whole, streamed):
        error = expect_error(
            openai.InternalServerError, call, status=502, code="hook_failed", contains=["admin/puppet@1.0.0", "trap"]
        )
        assert error.response.headers["x-should-retry"] == "false"


def ended():
    texts, reason, usage = streamed()
    assert reason == "content_filter" and 0 < usage.completion_tokens < 32, (texts, usage)
    assert len([text for text in texts if text]) == 4


def constrained():
    content = whole().choices[0].message.content
    assert len(content) == 3 and content.isupper(), content
    assert "".join(streamed()[0]) == content


globals()[os.environ["SOUK_STAGE"]]()
