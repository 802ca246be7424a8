"""llama-server, under the loads that `souk serve` is under."""

import os
import subprocess
import time
import urllib.request

from server import souk_bench
from sitting import MODEL, THREADS, Failed


class LlamaServer:
    """llama-server on a port of its own with LoRA files, none of which acts unless a request names it."""

    def __init__(self, peers, slots, adapters):
        port = str(18_000 + os.getpid() % 1000)
        self.url = f"http://127.0.0.1:{port}"
        self.command = [peers.programs / "llama-server", "-m", MODEL, "-t", str(THREADS), "-tb", str(THREADS), "-np", str(slots),
                        "-c", str(slots * 512), "--host", "127.0.0.1", "--port", port, "--no-webui", "--cache-reuse", "0"]
        for adapter in adapters:
            self.command += ["--lora", adapter]
        if adapters:
            self.command.append("--lora-init-without-apply")

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            if self.process.poll() is not None:
                raise Failed(f"llama-server ended with {self.process.returncode}")
            try:
                with urllib.request.urlopen(f"{self.url}/health") as answer:
                    if answer.status == 200:
                        return self
            except OSError:
                # Not there yet.
                pass
            time.sleep(0.1)
        self.process.kill()
        raise Failed("llama-server is not ready after a minute")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def load(self, souk, name, *flags):
        """Runs `souk bench` on it, as on a Souk server."""
        return souk_bench(souk, name, ["--naming", "llama-server", *flags], {"SOUK_URL": self.url})
