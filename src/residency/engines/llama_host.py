"""The process that llama.cpp lives in; see `residency.engines.host`.

It runs llama.cpp's server inside itself (xllamacpp), or a native `llama-server` as its child.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path
from typing import Any

from residency.engines.host import HOST, Program, Server, host

KEY_VARIABLE = "LLAMA_API_KEY"
WARNINGS = 2  # llama.cpp's verbosity: errors and warnings; 3 writes six lines for each request


class _Inside:
    """llama.cpp's server in this process; it goes when the process goes."""

    def __init__(self, spec: dict[str, Any]) -> None:
        preload_openmp()
        from xllamacpp import CommonAdapterLoraInfo, CommonParams, Server

        params = CommonParams()
        params.model.path = spec["model"]
        params.model_alias = {spec["alias"]}
        params.api_keys = [os.environ.pop(KEY_VARIABLE)]
        params.hostnames, params.port = [HOST], 0
        params.n_parallel = spec["slots"]
        params.n_ctx = spec["context"] * spec["slots"]  # llama.cpp shares it out among the slots
        params.n_threads_http = _http_threads(spec)
        params.cpuparams.n_threads = spec["threads"]
        params.lora_adapters = [CommonAdapterLoraInfo(path) for path in spec["lora"]]
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


def _native(spec: dict[str, Any]) -> Program:
    """A native `llama-server`."""
    command = [spec["server"], "-m", spec["model"], "--alias", spec["alias"], "--host", HOST]
    command += ["-t", str(spec["threads"]), "-np", str(spec["slots"])]
    command += ["-c", str(spec["context"] * spec["slots"])]
    command += ["--lora", ",".join(spec["lora"])] if spec["lora"] else []
    # What an older server does not know goes by environment, where it is ignored; and none of
    # the user's own variables may change how a release runs.
    env = {k: v for k, v in os.environ.items() if not k.startswith("LLAMA_ARG_")}
    env |= {"LLAMA_ARG_JINJA": "1", "LLAMA_ARG_CACHE_RAM": "0", "LLAMA_ARG_FIT": "off"}
    env |= {
        "LLAMA_LOG_VERBOSITY": str(WARNINGS),
        "LLAMA_ARG_THREADS_HTTP": str(_http_threads(spec)),
    }
    return Program(spec["server"], lambda port: [*command, "--port", str(port)], env)


def _http_threads(spec: dict[str, Any]) -> int:
    """A connection holds one for as long as it is open, also while it is kept for later."""
    return 2 * int(spec["slots"]) + 8


def _server(spec: dict[str, Any]) -> Server:
    return _native(spec) if spec["server"] else _Inside(spec)


def preload_openmp() -> None:
    """Lend xllamacpp torch's copy of GNU OpenMP on a system that has none."""
    torch = importlib.util.find_spec("torch")
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        for folder in (torch.submodule_search_locations or []) if torch else []:
            copy = Path(folder) / "lib" / "libgomp.so.1"
            if copy.exists():
                ctypes.CDLL(str(copy), mode=ctypes.RTLD_GLOBAL)


if __name__ == "__main__":
    host(_server)
