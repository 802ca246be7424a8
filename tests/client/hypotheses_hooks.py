"""What is done with each request that `hypotheses.py` has made, and with each answer."""

import os

import schemathesis

MOST = 4
URL = os.environ["SOUK_URL"]
# A cookie; empty for those who have a key or nothing.
SESSION = os.environ["SOUK_SESSION"]


@schemathesis.hook
def map_body(context, body):
    """Keeps answers short: one that goes on to the end of the context takes minutes. Nothing else of a request is changed,
    and what is no number stays what it is."""
    if isinstance(body, dict) and ("messages" in body or "prompt" in body):
        for field in ["max_tokens", "max_completion_tokens"]:
            given = body.get(field)
            if isinstance(given, int) and not isinstance(given, bool) and given > MOST:
                body[field] = MOST
        if body.get("max_tokens") is None and body.get("max_completion_tokens") is None:
            body["max_tokens"] = MOST
    return body


@schemathesis.hook
def before_call(context, case, kwargs):
    """Presents the session as a page of the server does, in place of what was made up for it."""
    if SESSION:
        case.cookies = {}
        case.headers = dict(case.headers or {}) | {
            "cookie": SESSION,
            "origin": URL,
            "x-csrf-token": os.environ["SOUK_CSRF_TOKEN"],
        }
        case.headers.pop("Authorization", None)


@schemathesis.hook
def after_call(context, case, response):
    """Notes which route has answered what."""
    if answers := os.environ.get("SOUK_ANSWERS"):
        with open(answers, "a") as file:
            print(case.method.upper(), case.operation.path, response.status_code, file=file)
