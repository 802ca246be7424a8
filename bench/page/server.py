"""A Souk server with published adapters, and loads through HTTP on it."""

import http.client
import json
import os
import re
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager
from pathlib import Path

from sitting import LONGEST_RUN_S, Failed, write_adapters

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
                raise Failed(f"the server did not start:\n{log.read_text()}")
            time.sleep(0.02)
        self.url, self.key = found[1], (home / "key").read_text().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)
        self.home.cleanup()

    def call(self, method, path, body=None, kind="application/json", key=None):
        """Calls the registry with the admin key, or another, and returns the JSON that it answers."""
        request = urllib.request.Request(self.url + path, body, method=method)
        request.add_header("authorization", f"Bearer {key or self.key}")
        request.add_header("content-type", kind)
        try:
            with urllib.request.urlopen(request) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise Failed(f"{method} {path}: {error.code} {error.read().decode()}") from error

    def publish(self, names, rank, targets):
        """Publishes a random adapter under each name."""
        folder = Path(self.home.name) / f"adapters-{uuid.uuid4().hex}"
        write_adapters(folder, len(names), rank, targets)
        for name, adapter in zip(names, sorted(folder.iterdir()), strict=True):
            self.call("POST", "/registry/v1/adapters", json.dumps(
                {"name": name, "visibility": "private", "description": "random numbers"}).encode())
            boundary = uuid.uuid4().hex
            fields = {
                "version": b"1.0.0",
                **{file: (adapter / file).read_bytes() for file in ("adapter_config.json", "adapter_model.safetensors")},
            }
            body = b"".join(
                f'--{boundary}\r\ncontent-disposition: form-data; name="{field}"'.encode()
                + (f'; filename="{field}"'.encode() if "." in field else b"")
                + b"\r\n\r\n" + content + b"\r\n"
                for field, content in fields.items()
            ) + f"--{boundary}--\r\n".encode()
            self.call("POST", f"/registry/v1/adapters/admin/{name}/versions", body,
                      f"multipart/form-data; boundary={boundary}")

    def tenant(self, name, scopes=("inference",)):
        """Makes a tenant and returns the secret of a key of its own."""
        self.call("POST", "/registry/v1/tenants", json.dumps({"name": name}).encode())
        key = {"name": "bench", "scopes": scopes, "tenant": name}
        return self.call("POST", "/registry/v1/keys", json.dumps(key).encode())["secret"]

    def load(self, name, *flags):
        """Runs `souk bench` and returns the command line that says how, and the result."""
        return souk_bench(self.souk, name, flags, {"SOUK_URL": self.url, "SOUK_API_KEY": self.key})

    def cpu_seconds(self):
        """Processor time that the process has taken so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def num_steps(self):
        """Steps that the engine has run so far."""
        with urllib.request.urlopen(f"{self.url}/metrics") as response:
            found = re.search(r"^souk_engine_step_seconds_count (\d+)", response.read().decode(), re.M)
        # Absent before the first.
        return int(found[1]) if found else 0

    def stream(self, prompt, max_tokens, key, model=BASE):
        """Begins to stream an answer to a prompt."""
        return Stream(self.url, {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0,
                                 "ignore_eos": True, "stream": True}, key)


class Stream:
    """A streamed answer, on a connection of its own."""

    def __init__(self, url, body, key):
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        self.connection.request("POST", "/v1/completions", json.dumps(body),
                                {"authorization": f"Bearer {key}", "content-type": "application/json"})
        self.socket, self.response = self.connection.sock, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def wait_for_text(self):
        """Waits for the first event."""
        self.response = self.connection.getresponse()
        line = self.response.readline()
        if not line.startswith(b"data:"):
            raise OSError(f"{self.response.status}: {line.decode()}")

    def read_to_end(self):
        """Reads the rest."""
        self.response.read()

    def close(self):
        """Closes the connection, also while another thread waits for text."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            # The server was faster.
            pass
        self.connection.close()


def souk_bench(souk, name, flags, settings):
    """Runs `souk bench` and returns the command line that says how, and the result; a load of which no request ended in
    time has one too."""
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        done = subprocess.run([souk, "bench", "--name", name, *flags, "--json", result.name], capture_output=True, text=True,
                              env=os.environ | settings, timeout=LONGEST_RUN_S)
        text = Path(result.name).read_text()
        if not text:
            raise Failed(f"souk bench ended with {done.returncode}:\n{done.stderr.strip()}")
        return " ".join(["souk bench", *flags]), json.loads(text)


@contextmanager
def background_load(server, key, flags):
    """A load by `souk bench` for as long as the block lasts."""
    command = [server.souk, "bench", *flags, "--duration-s", "3600", "--warm-up-s", "0"]
    process = subprocess.Popen(command, env=os.environ | {"SOUK_URL": server.url, "SOUK_API_KEY": key},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
        if process.poll() is not None:
            raise Failed(f"the load ended early, with {process.returncode}")
    finally:
        process.kill()
        process.wait()
