"""A Souk server with published adapters, and loads through HTTP on it."""

import json
import os
import re
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import random_adapters

BASE = "smollm2-135m-instruct"


class Server:
    """`souk serve` on a free port with a data folder of its own."""

    def __init__(self, souk, settings=None):
        self.souk = souk
        self.home = tempfile.TemporaryDirectory()
        home = Path(self.home.name)
        log = home / "log"
        environment = os.environ | {"SOUK_LOG__FILTER": "warn"} | (settings or {})
        command = [souk, "serve", "--listen", "127.0.0.1:0", "--data-dir", home / "data", "--admin-key-file", home / "key"]
        with open(log, "w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        while not (found := re.search(r"^listening on (\S+)", log.read_text(), re.M)):
            if self.process.poll() is not None:
                raise SystemExit(f"the server did not start:\n{log.read_text()}")
            time.sleep(0.02)
        self.url, self.key = found[1], (home / "key").read_text().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)
        self.home.cleanup()

    def call(self, method, path, body=None, kind="application/json"):
        """Calls the registry with the admin key and returns the JSON that it answers."""
        request = urllib.request.Request(self.url + path, body, method=method)
        request.add_header("authorization", f"Bearer {self.key}")
        request.add_header("content-type", kind)
        try:
            with urllib.request.urlopen(request) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{method} {path}: {error.code} {error.read().decode()}") from error

    def publish(self, names, rank, targets):
        """Publishes a random adapter under each name."""
        for name in names:
            self.call("POST", "/registry/v1/adapters", json.dumps(
                {"name": name, "visibility": "private", "description": "random numbers"}).encode())
            boundary = uuid.uuid4().hex
            fields = {
                "version": b"1.0.0",
                "adapter_config.json": random_adapters.config(rank, targets),
                "adapter_model.safetensors": random_adapters.weights(rank, targets),
            }
            body = b"".join(
                f'--{boundary}\r\ncontent-disposition: form-data; name="{field}"'.encode()
                + (f'; filename="{field}"'.encode() if "." in field else b"")
                + b"\r\n\r\n" + content + b"\r\n"
                for field, content in fields.items()
            ) + f"--{boundary}--\r\n".encode()
            self.call("POST", f"/registry/v1/adapters/admin/{name}/versions", body,
                      f"multipart/form-data; boundary={boundary}")

    def tenant(self, name):
        """Makes a tenant and returns the secret of a key of its own."""
        self.call("POST", "/registry/v1/tenants", json.dumps({"name": name}).encode())
        key = {"name": "bench", "scopes": ["inference"], "tenant": name}
        return self.call("POST", "/registry/v1/keys", json.dumps(key).encode())["secret"]

    def load(self, name, *flags):
        """Runs `souk bench` and returns the command line that says how, and the result."""
        with tempfile.NamedTemporaryFile(suffix=".json") as result:
            command = [self.souk, "bench", "--name", name, *flags, "--json", result.name]
            environment = os.environ | {"SOUK_URL": self.url, "SOUK_API_KEY": self.key}
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
            return " ".join(["souk bench", *flags]), json.loads(Path(result.name).read_text())
