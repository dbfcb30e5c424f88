"""The real hub client against a server of this file's own that speaks the hub's paths."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"pickled",
    "README.md": b"---\nlicense: mit\n---\n# A model\n",
}
ASK = """
import sys
from residency.errors import ResidencyError
from residency.models.hub import fetch
try:
    found = fetch(sys.argv[1])
    names = sorted(p.name for p in found.path.iterdir())
    print(found.commit, found.license, *names)
except ResidencyError as error:
    print(type(error).__name__, error.message, "|", error.hint)
"""


@dataclass
class Hub:
    url: str
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def hub() -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            found.asked.append(self.path)
            path = self.path.split("?")[0]
            if not path.startswith(("/api/models/our/model", "/our/model/resolve")):
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            elif path.startswith("/api/") and "/tree/" in path:
                entries = [
                    {
                        "type": "file",
                        "path": name,
                        "size": len(data),
                        "oid": hashlib.sha1(data).hexdigest(),
                    }
                    for name, data in FILES.items()
                ]
                self._send(200, json.dumps(entries).encode(), {})
            elif path.startswith("/api/"):
                siblings = [{"rfilename": name} for name in FILES]
                whole = {"id": "our/model", "sha": COMMIT, "siblings": siblings}
                self._send(200, json.dumps(whole).encode(), {})
            else:
                data = FILES[path.rsplit("/", 1)[1]]
                self._send(200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"'})

        def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Repo-Commit", COMMIT)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Hub(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


def _fetch(name: str, home: Path, endpoint: str, **extra: str) -> str:
    """In a process of its own, as the client reads its environment once."""
    kept = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    environment = {**kept, "RESIDENCY_HOME": str(home), "HF_ENDPOINT": endpoint, **extra}
    command = [sys.executable, "-c", ASK, name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_model_is_fetched_once_with_its_commit_and_licence(hub: Hub, tmp_path: Path) -> None:
    expected = f"{COMMIT} mit README.md config.json model.safetensors"
    assert _fetch("our/model", tmp_path, hub.url) == expected
    assert not any("pytorch_model.bin" in path for path in hub.asked)
    hub.asked.clear()
    assert _fetch("our/model", tmp_path, hub.url) == expected
    assert hub.asked == []


def test_a_model_that_the_hub_does_not_have(hub: Hub, tmp_path: Path) -> None:
    answer = _fetch("no/model", tmp_path, hub.url)
    assert answer.startswith("ModelError no/model: the hub does not give it out")


def test_without_network(tmp_path: Path) -> None:
    answer = _fetch("our/model", tmp_path, "http://127.0.0.1:9")
    assert answer.startswith("MissingError our/model is not on this machine")
    assert "residency pull our/model" in answer


def test_offline(hub: Hub, tmp_path: Path) -> None:
    answer = _fetch("our/model", tmp_path, hub.url, HF_HUB_OFFLINE="1")
    assert answer.startswith("MissingError our/model is not on this machine")
    assert hub.asked == []
