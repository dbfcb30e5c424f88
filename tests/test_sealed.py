"""In a sealed process nothing leaves, and who tried is told; proven in real child processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from residency.sealed import VARIABLE, is_local

ROOT = Path(__file__).parents[1]
# 192.0.2.0/24 and .invalid are reserved for documentation and tests: RFC 5737, RFC 2606.
PLANTED = {
    "raw": "socket.socket().connect(('192.0.2.1', 80))",
    "raw6": "socket.socket(socket.AF_INET6).connect(('2001:db8::1', 80))",
    "connect_ex": "socket.socket().connect_ex(('192.0.2.2', 80))",
    "datagram": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.3', 53))",
    "message": "socket.socket(type=socket.SOCK_DGRAM).sendmsg([b'x'], [], 0, ('192.0.2.4', 53))",
    "urllib": "urllib.request.urlopen('http://192.0.2.5/')",
    "urllib_name": "urllib.request.urlopen('http://telemetry.invalid/')",
    "aiohttp": "asyncio.run(fetch('http://192.0.2.6/'))",
    "aiohttp_name": "asyncio.run(fetch('http://hub.invalid/'))",
    "look_up": "socket.getaddrinfo('ask.invalid', 80)",
    "look_up_bytes": "socket.getaddrinfo(b'bytes.invalid', 80)",
    "old_look_up": "socket.gethostbyname('old.invalid')",
    "reverse": "socket.gethostbyaddr('192.0.2.7')",
    "evil": "socket.getaddrinfo('localhost.evil.invalid', 80)",
    "thread": "in_thread(lambda: socket.socket().connect(('192.0.2.8', 80)))",
}
NAMED = {
    "urllib_name": "telemetry.invalid",
    "aiohttp_name": "hub.invalid",
    "look_up": "ask.invalid",
    "look_up_bytes": "bytes.invalid",
    "old_look_up": "old.invalid",
    "evil": "localhost.evil.invalid",
}
SNEAK = """
import asyncio, concurrent.futures, json, socket, urllib.request
import aiohttp

async def fetch(url):
    async with aiohttp.ClientSession() as session, session.get(url):
        pass

def in_thread(call):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return pool.submit(call).result()

def attempt(code):
    try:
        eval(code)
    except Exception as error:
        return [type(error).__name__, str(error)]
"""
LOCAL = """
import asyncio, os, socket, tempfile, urllib.request
from aiohttp import web
import aiohttp

async def play():
    app = web.Application()
    async def hello(_): return web.Response(text="hello")
    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    path = os.path.join(tempfile.mkdtemp(), "s")
    await web.UnixSite(runner, path).start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://localhost:{port}/") as response:
            print(await response.text())
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
        async with session.get("http://any/") as response:
            print(await response.text())
    fetch = lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/").read().decode()
    print(await asyncio.to_thread(fetch))
    await runner.cleanup()
    socket.socket().bind(("0.0.0.0", 0))
    left, right = socket.socketpair()

asyncio.run(play())
"""


def run(code: str, *command: str, sealed: str = "") -> subprocess.CompletedProcess[str]:
    """`code` in a child; `sealed` is what its environment says."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: sealed}
    return subprocess.run(
        [*(command or (sys.executable,)), "-c", code],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def sneaked(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], str]:
    """What became of each planted call, and what was logged; the caller is a module `sneak`."""
    folder = tmp_path_factory.mktemp("sneak")
    (folder / "sneak.py").write_text(SNEAK)
    done = run(
        f"import sys; sys.path.append({str(folder)!r})\n"
        "from residency.sealed import seal; seal(); seal()\n"
        "import json, sneak\n"
        f"found = {{name: sneak.attempt(code) for name, code in {PLANTED!r}.items()}}\n"
        "sneak.attempt(\"socket.socket().connect(('192.0.2.1', 80))\")\n"
        "print(json.dumps(found))"
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_call_is_refused_and_its_destination_named(
    sneaked: tuple[dict[str, list[str]], str], name: str
) -> None:
    found, log = sneaked
    kind, message = found[name]
    assert kind == "SealedError"
    assert NAMED.get(name, "192.0.2." if name != "raw6" else "2001:db8::1") in message
    assert message in log


@pytest.mark.parametrize("name", sorted(PLANTED.keys() - {"aiohttp_name"}))
def test_the_module_that_tried_is_named(
    sneaked: tuple[dict[str, list[str]], str], name: str
) -> None:
    assert "sneak tried" in sneaked[0][name][1]


def test_a_destination_is_logged_once(sneaked: tuple[dict[str, list[str]], str]) -> None:
    assert sneaked[1].count("192.0.2.1:80") == 1


def test_loopback_and_sockets_of_the_file_system_work() -> None:
    done = run(f"from residency.sealed import seal; seal()\n{LOCAL}")
    assert done.stdout == "hello\n" * 3, done.stderr
    assert not done.stderr


@pytest.mark.parametrize(("sealed", "refused"), [("1", True), ("", False)])
def test_a_child_is_sealed_when_its_parent_is(sealed: str, refused: bool) -> None:
    done = run(
        "from residency.sealed import seal_from_environment; seal_from_environment()\n"
        "import os, socket; print(os.environ.get('HF_HUB_OFFLINE'))\n"
        "s = socket.socket(type=socket.SOCK_DGRAM)\n"
        "s.sendto(b'', ('255.255.255.255', 9))",
        sealed=sealed,
    )
    assert ("SealedError" in done.stderr) == refused
    assert (done.stdout.strip() == "1") == refused


def test_a_script_that_is_not_ours_runs_sealed(tmp_path: Path) -> None:
    script = tmp_path / "converter.py"
    script.write_text(
        "import sys, urllib.request\n"
        "if __name__ == '__main__':\n"
        "    print(sys.argv[1:])\n"
        "    urllib.request.urlopen('http://192.0.2.1/')\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-m", "residency.sealed", str(script), "a", "--b"],
        env={**os.environ, VARIABLE: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "['a', '--b']\n"
    assert done.returncode == 1
    assert "tried to reach 192.0.2.1:80" in done.stderr


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("::ffff:8.8.8.8", False),
        ("127.1", False),
        ("localhost.evil", False),
        ("::", False),
        ("", False),
    ],
)
def test_what_is_local(host: str, local: bool) -> None:
    assert is_local(host) == local
