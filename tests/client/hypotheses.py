"""Requests that nobody thought of, made from both OpenAPI documents: no 5xx, and no answer that is not in the document.

With a key that may do everything, a tenant's key, and none. The same requests in each run."""

import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
URL = os.environ["SOUK_URL"]
KEYS = {"an operator": os.environ["SOUK_API_KEY"], "a tenant": os.environ["SOUK_TENANT_KEY"], "nobody": None}
# Most requests for each operation and caller; all of them take a minute or two.
CASES = os.environ.get("SOUK_CASES", "12")
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]


def run(document, who, folder):
    command = [
        pathlib.Path(sys.executable).parent / "st", "run", ROOT / "openapi" / document, "--url", URL,
        "--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--max-examples", CASES,
        "--generation-deterministic", "--no-color", "--workers", "1",
        "--request-timeout", "60", "--suppress-health-check", "all", "--warnings", "off", "--continue-on-failure",
    ]  # fmt: skip
    if KEYS[who] is not None:
        command += ["--header", f"Authorization: Bearer {KEYS[who]}"]
    hooks = {"SCHEMATHESIS_HOOKS": "short_answers", "PYTHONPATH": str(ROOT / "tests/client")}
    done = subprocess.run(command, cwd=folder, env=os.environ | hooks, capture_output=True, text=True)
    summary = [line for line in done.stdout.splitlines() if "generated" in line or "passed" in line or "Operations" in line]
    print(document, who, *summary, sep="\n  ")
    return [] if done.returncode == 0 else [f"{document}, {who}:\n{done.stdout}\n{done.stderr}"]


with tempfile.TemporaryDirectory() as folder:
    failures = [
        failure for document in ["registry.json", "gateway.json"] for who in KEYS for failure in run(document, who, folder)
    ]
assert not failures, "\n\n".join(failures)
