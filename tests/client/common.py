"""What the scripts share: clients of the server under test, and a check that an error has the right shape."""

import os

import openai

URL = os.environ["SOUK_URL"]
KEY = os.environ["SOUK_API_KEY"]
BASE = os.environ["SOUK_BASE"]

SST2 = "Sentence: {} .\nSentiment (positive or negative):"
GOOD = SST2.format("a warm and funny film that stays with you")
BAD = SST2.format("what a waste of two hours")


def client(key=KEY, **options):
    options.setdefault("max_retries", 0)
    return openai.OpenAI(base_url=f"{URL}/v1", api_key=key, **options)


def expect_error(kind, call, *, status, param=None, code=None, contains=()):
    """Runs `call`, which must raise `kind` with the status and the fields of OpenAI's error shape."""
    try:
        call()
    except kind as error:
        assert error.status_code == status, (error.status_code, error.body)
        body = error.body
        assert set(body) >= {"message", "type", "param", "code"}, body
        assert param is None or body["param"] == param, body
        assert code is None or body["code"] == code, body
        for text in contains:
            assert text in body["message"], body
        assert error.response.headers.get("x-request-id"), "every answer has a request id"
        return error
    raise AssertionError(f"no {kind.__name__} was raised")
