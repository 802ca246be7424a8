"""Every refusal that a caller can meet, as the official client raises it."""

import json
import urllib.error
import urllib.request

import openai

from common import BASE, KEY, URL, client, expect_error

api = client()
hello = [{"role": "user", "content": "Hi"}]


def chat(**fields):
    fields = {"model": BASE, "messages": hello, "max_tokens": 4} | fields
    return lambda: api.chat.completions.create(**fields)


def registry(method, path, body=None, key=KEY):
    """A call to the registry; returns status and JSON."""
    request = urllib.request.Request(
        f"{URL}/registry/v1{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request) as response:
            text = response.read()
            return response.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def raw(body, content_type="application/json", key=KEY):
    request = urllib.request.Request(
        f"{URL}/v1/chat/completions",
        data=body,
        headers={"authorization": f"Bearer {key}", "content-type": content_type},
    )
    try:
        urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]
    raise AssertionError("the request was accepted")


# Keys.
for key in ("nonsense", "souk_000000000000_wrong", KEY[:-1] + ("0" if KEY[-1] != "0" else "1")):
    bad = client(key)
    expect_error(openai.AuthenticationError, lambda: bad.models.list(), status=401, code="invalid_api_key")

status, made = registry("POST", "/keys", {"name": "to revoke", "scopes": ["inference"]})
assert status == 201, made
revoked = client(made["secret"])
revoked.chat.completions.create(model=BASE, messages=hello, max_tokens=1)
status, _ = registry("DELETE", f"/keys/{made['id']}")
assert status in (200, 204)
expect_error(openai.AuthenticationError, lambda: revoked.models.list(), status=401)

status, made = registry("POST", "/keys", {"name": "reader", "scopes": ["adapters:read"]})
reader = client(made["secret"])
expect_error(
    openai.PermissionDeniedError,
    lambda: reader.chat.completions.create(model=BASE, messages=hello),
    status=403,
    contains=["inference"],
)

# Another tenant's adapter is as unknown as one that does not exist.
status, _ = registry("POST", "/tenants", {"name": "rival"})
assert status == 201
status, made = registry("POST", "/keys", {"name": "rival", "scopes": ["inference", "adapters:read"], "tenant": "rival"})
assert status == 201, made
rival = client(made["secret"])
for model in ("admin/sst2", "admin/no-such-adapter", "no-such-base", "admin/sst2@9.9.9"):
    asker = rival if model == "admin/sst2" else api
    expect_error(
        openai.NotFoundError,
        lambda: asker.chat.completions.create(model=model, messages=hello),
        status=404,
        code="model_not_found",
        contains=[model],
    )
assert "admin/sst2" not in [model.id for model in rival.models.list()]
expect_error(openai.NotFoundError, lambda: rival.models.retrieve("admin/sst2"), status=404)
status, _ = registry("GET", "/adapters/admin/sst2", key=made["secret"])
assert status == 404

# Parameters.
bad = openai.BadRequestError
for field, value in {
    "temperature": 3,
    "top_p": 1.5,
    "n": 0,
    "max_tokens": 0,
    "presence_penalty": 5,
    "frequency_penalty": -5,
    "top_logprobs": 50,
    "stop": ["x"] * 100,
    "messages": [],
}.items():
    fields = {field: value} | ({"logprobs": True} if field == "top_logprobs" else {})
    expect_error(bad, chat(**fields), status=400, param=field)
expect_error(bad, chat(extra_body={"temprature": 1}), status=400, param="temprature")
expect_error(bad, chat(messages=[{"role": "wizard", "content": "Hi"}]), status=400)
expect_error(bad, chat(stream_options={"include_usage": True}), status=400, param="stream_options")

# The context.
long = [{"role": "user", "content": "word " * 9000}]
expect_error(bad, chat(messages=long), status=400, code="context_length_exceeded", contains=["8192", "90"])
expect_error(bad, chat(max_tokens=9000), status=400, contains=["8192"])

# The body.
status, error = raw(b"{not json")
assert status == 400 and error["type"] == "invalid_request_error", error
status, error = raw(b'{"model": "' + b"x" * (5 << 20) + b'"}')
assert status == 413 and "4194304" in error["message"], error
status, error = raw(b"x" * (5 << 20), key="wrong")
assert status == 401, "a refusal is heard by a client that is still sending"
status, error = raw(b"[1, 2]")
assert status == 400, error

# An unknown path under /v1 is answered in the same shape.
expect_error(openai.NotFoundError, lambda: api.embeddings.create(model=BASE, input="x"), status=404)
