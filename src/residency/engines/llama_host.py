"""The process that an engine lives in: `python -m residency.engines.llama_host --spec JSON`.

It runs llama.cpp's server inside itself (xllamacpp), or a native `llama-server` as its own child,
and prints one line of JSON: `{"url": ...}` when the model answers, `{"error": ...}` when it cannot.
It ends when its standard input does, so that no death of its parent leaves it behind. The key that
requests must carry comes in the environment, where other users cannot read it.
"""

from __future__ import annotations

import argparse
import ctypes
import http.client
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn, Protocol

KEY_VARIABLE = "LLAMA_API_KEY"
HOST = "127.0.0.1"
WATCH_SECONDS = 0.2
STOP_SECONDS = 5.0
PORT_TRIES = 5
WARNINGS = 2  # llama.cpp's verbosity: errors and warnings; 3 writes six lines for each request
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class _Server(Protocol):
    url: str

    def exit_code(self) -> int | None:
        """None while it runs."""

    def stop(self) -> None: ...


class _Inside:
    """llama.cpp's server in this process; it goes when the process goes."""

    def __init__(self, spec: dict[str, Any]) -> None:
        _preload_openmp()
        from xllamacpp import CommonParams, Server

        params = CommonParams()
        params.model.path = spec["model"]
        params.model_alias = {spec["alias"]}
        params.api_keys = [os.environ.pop(KEY_VARIABLE)]
        params.hostnames, params.port = [HOST], 0
        params.n_parallel = spec["slots"]
        params.n_ctx = spec["context"] * spec["slots"]  # llama.cpp shares it out among the slots
        params.cpuparams.n_threads = spec["threads"]
        params.fit_params = False  # it would change the context without saying so
        params.cache_ram_mib = 0  # else prompts of the past may fill 8 GiB
        params.ui = False
        params.verbosity = WARNINGS
        self._server = Server(params)
        self.url: str = self._server.listening_address

    def exit_code(self) -> int | None:
        return None

    def stop(self) -> None:
        """Nothing is left to do: no destructor runs, so that a busy engine ends at once."""


class _Native:
    """A native `llama-server` as a child of this process."""

    def __init__(self, spec: dict[str, Any]) -> None:
        for _ in range(PORT_TRIES):
            port = _free_port()
            self.url = f"http://{HOST}:{port}"
            self._child = self._spawn(spec, port)
            if self._answers(port):
                return
            if not _taken(port):
                break
        code = self._child.returncode
        raise RuntimeError(f"{spec['server']} ended with {_exit_words(code)}")

    def _spawn(self, spec: dict[str, Any], port: int) -> subprocess.Popen[bytes]:
        command = [spec["server"], "-m", spec["model"], "--alias", spec["alias"]]
        command += ["--host", HOST, "--port", str(port), "-t", str(spec["threads"])]
        command += ["-c", str(spec["context"] * spec["slots"]), "-np", str(spec["slots"])]
        # What an older server does not know goes by environment, where it is ignored; and none of
        # the user's own variables may change how a release runs.
        env = {k: v for k, v in os.environ.items() if not k.startswith("LLAMA_ARG_")}
        env |= {"LLAMA_ARG_JINJA": "1", "LLAMA_ARG_CACHE_RAM": "0", "LLAMA_ARG_FIT": "off"}
        env |= {"LLAMA_LOG_VERBOSITY": str(WARNINGS)}
        return subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            preexec_fn=lambda: _die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - we have no threads
        )

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


def main() -> None:
    """Host the engine that `--spec` describes until the parent goes."""
    parent = os.getppid()
    # xllamacpp holds the interpreter while it loads, so that only the kernel can end this process
    # then. The parent's thread waits for that long; later it may end while the parent lives.
    _die_with_parent(signal.SIGKILL)
    out = _own_stdout()
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--spec", required=True, type=json.loads)
    spec = arguments.parse_args().spec
    try:
        server: _Server = _Native(spec) if spec["server"] else _Inside(spec)
    except (RuntimeError, OSError, ImportError) as error:
        _say(out, {"error": str(error)})
        os._exit(1)
    _say(out, {"url": server.url})
    _die_with_parent(0)
    _watch(parent, server)


def _watch(parent: int, server: _Server) -> NoReturn:
    """End with the parent or with the server, whichever goes first."""
    stdin = sys.stdin.fileno()
    while server.exit_code() is None:
        readable, _, _ = select.select([stdin], [], [], WATCH_SECONDS)
        # A process forked from the parent may hold the pipe open after it: hence the second look.
        if (readable and not os.read(stdin, 1)) or os.getppid() != parent:
            server.stop()
            os._exit(0)
    code = server.exit_code() or 0
    sys.stderr.write(f"llama-server ended with {_exit_words(code)}\n")
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


def _die_with_parent(number: int) -> None:
    """Have the kernel send signal `number` when the thread that started us ends; 0: don't."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def _preload_openmp() -> None:
    """Lend xllamacpp torch's copy of GNU OpenMP on a system that has none."""
    torch = importlib.util.find_spec("torch")
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        for folder in (torch.submodule_search_locations or []) if torch else []:
            copy = Path(folder) / "lib" / "libgomp.so.1"
            if copy.exists():
                ctypes.CDLL(str(copy), mode=ctypes.RTLD_GLOBAL)


def _free_port() -> int:
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


if __name__ == "__main__":
    main()
