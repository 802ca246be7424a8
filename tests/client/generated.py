"""A client that is generated from openapi/registry.json publishes, lists, tags, yanks and makes a key on a live server."""

import importlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = ROOT / "examples/adapters/sst2"


def generate(folder):
    """Writes the package `made` into `folder`. The formatter that it calls is beside this Python."""
    settings = folder / "settings.json"
    # Lines of JSON are text to it.
    settings.write_text(json.dumps({"content_type_overrides": {"application/x-ndjson": "text/plain"}}))
    tools = pathlib.Path(sys.executable).parent
    command = [tools / "openapi-python-client", "generate", "--config", settings, "--meta", "none"]
    command += ["--path", ROOT / "openapi/registry.json"]
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*command, "--output-path", folder / "made", "--fail-on-warning"],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def api(tag, operation):
    return importlib.import_module(f"made.api.{tag}.{operation}")


def call(tag, operation, status, *arguments, client, **named):
    answer = api(tag, operation).sync_detailed(*arguments, client=client, **named)
    assert answer.status_code == status, f"{operation}: {answer.status_code} {answer.content[:500]}"
    return answer.parsed


def main(folder):
    generate(folder)
    sys.path.insert(0, str(folder))
    made = importlib.import_module("made")
    models, types = importlib.import_module("made.models"), importlib.import_module("made.types")
    url = os.environ["SOUK_URL"]
    operator = made.AuthenticatedClient(base_url=url, token=os.environ["SOUK_API_KEY"])

    tenant = call("tenants", "create_tenant", 201, client=operator, body=models.CreateTenant(name="acme"))
    assert tenant.name == "acme" and tenant.id
    wanted = models.CreateKey(name="made", scopes=["adapters:read", "adapters:write", "keys:manage"], tenant="acme")
    key = call("keys", "create_key", 201, client=operator, body=wanted, idempotency_key="k")
    again = call("keys", "create_key", 201, client=operator, body=wanted, idempotency_key="k")
    assert key.secret and again.id == key.id and not again.secret
    acme = made.AuthenticatedClient(base_url=url, token=key.secret)

    adapter = call("adapters", "create_adapter", 201, client=acme, body=models.CreateAdapter(name="sst2"))
    assert adapter.owner == "acme" and adapter.latest_version is None
    file = lambda name: types.File(payload=io.BytesIO((FILES / name).read_bytes()), file_name=name)
    for number in ["1.0.0", "1.1.0"]:
        parts = models.UploadParts(
            version=number,
            adapter_config_json=file("adapter_config.json"),
            adapter_model_safetensors=file("adapter_model.safetensors"),
        )
        version = call("versions", "upload_version", 201, "acme", "sst2", client=acme, body=parts)
        assert version.version == number and version.state == models.VersionState.READY, version
    names, cursor = [], types.UNSET
    while True:
        page = call("versions", "list_versions", 200, "acme", "sst2", client=acme, limit=1, cursor=cursor)
        names += [version.version for version in page.data]
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    assert names == ["1.1.0", "1.0.0"], names

    tag = call("tags", "put_tag", 200, "acme", "sst2", "prod", client=acme, body=models.PutTag(version="1.0.0"))
    assert tag.id == "acme/sst2:prod" and tag.version == "1.0.0"
    yanked = call("versions", "yank_version", 200, "acme", "sst2", "1.1.0", client=acme)
    assert yanked.state == models.VersionState.YANKED
    assert call("adapters", "get_adapter", 200, "acme", "sst2", client=acme).latest_version == "1.0.0"
    digests = {file.name: file.digest for file in version.files}
    assert set(digests) >= {"adapter_config.json", "adapter_model.safetensors", "manifest.json"}

    problem = call("versions", "get_version", 404, "acme", "sst2", "9.9.9", client=acme)
    assert problem.code == "not_found" and problem.status == 404, problem
    nobody = made.AuthenticatedClient(base_url=url, token="souk_none")
    assert call("keys", "list_keys", 401, client=nobody).code == "key_invalid"
    call("keys", "revoke_key", 204, key.id, client=operator)
    assert call("adapters", "list_adapters", 401, client=acme).code == "key_revoked"


with tempfile.TemporaryDirectory() as folder:
    main(pathlib.Path(folder))
