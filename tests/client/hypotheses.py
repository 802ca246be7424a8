"""Requests that nobody thought of, made from both OpenAPI documents: no 5xx, and no answer that is not in the document.

With a key that may do everything, a tenant's key, none, and a session of a tenant's owner. The same requests in each run.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
URL = os.environ["SOUK_URL"]
KEYS = {"an operator": os.environ["SOUK_API_KEY"], "a tenant": os.environ["SOUK_TENANT_KEY"], "nobody": None}
OWNER = "an owner with a session"
# What ends a session has one of its own, since a session's id is among what is tried.
ENDING = ["end_session", "sign_out"]
# A cookie and a token for each.
SESSIONS = json.loads(os.environ["SOUK_SESSIONS"])
# Most requests for each operation and caller; all of them take a minute or two.
CASES = os.environ.get("SOUK_CASES", "12")
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]


def run(document, who, folder, *operations, session=("", "")):
    command = [
        pathlib.Path(sys.executable).parent / "st", "run", ROOT / "openapi" / document, "--url", URL,
        "--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--max-examples", CASES,
        "--generation-deterministic", "--no-color", "--workers", "1",
        "--request-timeout", "60", "--suppress-health-check", "all", "--warnings", "off", "--continue-on-failure",
        *operations,
    ]  # fmt: skip
    hooks = {"SCHEMATHESIS_HOOKS": "hypotheses_hooks", "PYTHONPATH": str(ROOT / "tests/client")}
    hooks |= {"SOUK_SESSION": session[0], "SOUK_CSRF_TOKEN": session[1]}
    if who == OWNER:
        hooks["SOUK_ANSWERS"] = f"{folder}/answers"
    elif KEYS[who] is not None:
        command += ["--header", f"Authorization: Bearer {KEYS[who]}"]
    done = subprocess.run(command, cwd=folder, env=os.environ | hooks, capture_output=True, text=True)
    summary = [line for line in done.stdout.splitlines() if "generated" in line or "passed" in line or "Operations" in line]
    print(document, who, *summary, sep="\n  ")
    return [] if done.returncode == 0 else [f"{document}, {who}:\n{done.stdout}\n{done.stderr}"]


def of_sessions():
    """Routes that a session alone opens, as the hooks call them."""
    document = json.loads((ROOT / "openapi/registry.json").read_text())
    return {
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if operation.get("security") == [{"session": []}]
    }


with tempfile.TemporaryDirectory() as folder:
    failures = [
        failure for document in ["registry.json", "gateway.json"] for who in KEYS for failure in run(document, who, folder)
    ]
    others = [word for operation in ENDING for word in ("--exclude-operation-id", operation)]
    failures += run("registry.json", OWNER, folder, *others, session=SESSIONS[0])
    for operation, session in zip(ENDING, SESSIONS[1:], strict=True):
        failures += run("registry.json", OWNER, folder, "--include-operation-id", operation, session=session)
    answers = collections.defaultdict(collections.Counter)
    for line in pathlib.Path(folder, "answers").read_text().splitlines():
        route, status = line.rsplit(" ", 1)
        answers[route][int(status)] += 1
assert not failures, "\n\n".join(failures)
# Or what is behind the door was never tried.
shut = {route: dict(answers[route]) for route in of_sessions() if set(answers[route]) <= {401, 403}}
assert not shut, shut
assert {status for statuses in answers.values() for status in statuses} > {200, 201, 204, 404}, answers
