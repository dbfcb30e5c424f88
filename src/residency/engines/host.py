"""What the processes that engines live in share: `python -m MODULE --spec JSON`.

A host runs its engine inside itself or as a program of its own, and prints one line of JSON:
`{"url": ...}` when the model answers, `{"error": ...}` when it cannot. It ends when its standard
input does, so that no death of its parent leaves it behind. The key that requests must carry comes
in the environment, where other users cannot read it.
"""

from __future__ import annotations

import argparse
import ctypes
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

from residency.errors import ResidencyError
from residency.sealed import seal_from_environment

HOST = "127.0.0.1"
WATCH_SECONDS = 0.2
STOP_SECONDS = 5.0
PORT_TRIES = 5
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Server(Protocol):
    url: str

    def exit_code(self) -> int | None:
        """None while it runs."""

    def stop(self) -> None: ...


class Program:
    """An engine's own program as a child of this process.

    `command` gives its command line for a port; it answers `/health` once the model is loaded.
    """

    def __init__(
        self, name: str, command: Callable[[int], list[str]], env: Mapping[str, str]
    ) -> None:
        for _ in range(PORT_TRIES):
            port = free_port()
            self.url = f"http://{HOST}:{port}"
            self._child = _spawn(command(port), env)
            if self._answers(port):
                return
            if not _taken(port):
                break
        raise RuntimeError(f"{name} ended with {_exit_words(self._child.returncode)}")

    def _answers(self, port: int) -> bool:
        """Wait until the model is loaded; False when the process ended first."""
        while self._child.poll() is None:
            connection = http.client.HTTPConnection(HOST, port, timeout=1)
            try:
                connection.request("GET", "/health")
                if connection.getresponse().status == http.HTTPStatus.OK:
                    return True
            except (OSError, http.client.HTTPException):
                pass  # not listening yet
            finally:
                connection.close()
            time.sleep(WATCH_SECONDS / 2)
        return False

    def exit_code(self) -> int | None:
        return self._child.poll()

    def stop(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()


def host(make: Callable[[dict[str, Any]], Server]) -> NoReturn:
    """Host what `make` makes of the spec until the parent goes."""
    seal_from_environment()
    parent = os.getppid()
    # xllamacpp holds the interpreter while it loads, so that only the kernel can end this process
    # then. The parent's thread waits for that long; later it may end while the parent lives.
    die_with_parent(signal.SIGKILL)
    out = _own_stdout()
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--spec", required=True, type=json.loads)
    spec = arguments.parse_args().spec
    try:
        server = make(spec)
    except (RuntimeError, OSError, ImportError, ResidencyError) as error:
        _say(out, {"error": str(error)})
        os._exit(1)
    die_with_parent(0)  # before the answer, upon which the thread that started us may end
    _say(out, {"url": server.url})
    _watch(parent, server)


def _watch(parent: int, server: Server) -> NoReturn:
    """End with the parent or with the server, whichever goes first."""
    stdin = sys.stdin.fileno()
    while server.exit_code() is None:
        readable, _, _ = select.select([stdin], [], [], WATCH_SECONDS)
        # A process forked from the parent may hold the pipe open after it: hence the second look.
        if (readable and not os.read(stdin, 1)) or os.getppid() != parent:
            server.stop()
            os._exit(0)
    code = server.exit_code() or 0
    sys.stderr.write(f"its program ended with {_exit_words(code)}\n")
    sys.stderr.flush()
    os._exit(1)


def _own_stdout() -> int:
    """A handle for our one line; what llama.cpp itself prints goes to stderr instead."""
    own = os.dup(1)
    os.dup2(2, 1)
    return own


def _say(out: int, value: dict[str, str]) -> None:
    os.write(out, json.dumps(value).encode() + b"\n")


def _exit_words(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def die_with_parent(number: int) -> None:
    """Have the kernel send signal `number` when the thread that started us ends; 0: don't."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def _spawn(command: list[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        preexec_fn=lambda: die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - we have no threads
    )


def free_port() -> int:
    """A port of loopback that nobody listens on, just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _taken(port: int) -> bool:
    """Whether some other process listens on the port: then llama-server could not."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
        return False
