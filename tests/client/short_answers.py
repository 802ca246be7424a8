"""Keeps answers short: one that goes on to the end of the context takes minutes. Nothing else of a request is changed, and
what is no number stays what it is."""

import schemathesis

MOST = 4


@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict) and ("messages" in body or "prompt" in body):
        for field in ["max_tokens", "max_completion_tokens"]:
            given = body.get(field)
            if isinstance(given, int) and not isinstance(given, bool) and given > MOST:
                body[field] = MOST
        if body.get("max_tokens") is None and body.get("max_completion_tokens") is None:
            body["max_tokens"] = MOST
    return body
