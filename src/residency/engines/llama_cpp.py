"""llama.cpp, the one inside xllamacpp or a native `llama-server`."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from residency import store
from residency.engines.hosted import HostedEngine, compare_digest
from residency.engines.llama_host import KEY_VARIABLE
from residency.errors import EngineLoadError, MissingError, ModelError
from residency.models.gguf_file import read_header


class LlamaCpp(HostedEngine):
    """`residency.engines.base.Engine` on llama.cpp."""

    name = "llama.cpp"
    module = "residency.engines.llama_host"
    key_variable = KEY_VARIABLE

    def check(self) -> None:
        """Whether the model file is there, whole, and the one that it should be.

        llama.cpp loads a file with flipped bytes and talks garbage; only the digest tells.
        """
        spec = self.spec
        model = first_file(spec.model)
        if not model.is_file():
            raise EngineLoadError(f"{model}: there is no such model file")
        try:
            read_header(model)
        except ModelError as error:
            raise EngineLoadError(error.message, hint=error.hint) from error
        if spec.sha256:
            compare_digest(spec, store.digest_of(spec.model))

    def described(self) -> Mapping[str, Any]:
        server = native_server(self.spec.server)
        return {"server": server, "model": str(first_file(self.spec.model).resolve())}

    def reason(self, log: Sequence[str]) -> str:
        return reason_in(log)


def first_file(model: Path) -> Path:
    """What llama.cpp is given: a GGUF file, or the first one in a folder of shards."""
    return next(model.glob("*-00001-of-*.gguf"), model) if model.is_dir() else model


def native_server(name: str) -> str:
    """The path of the `llama-server` to run; empty for the one inside xllamacpp.

    `name` is a path or a name on PATH. Without one, a `llama-server` on PATH stands in where
    xllamacpp is not installed. Raises `MissingError`.
    """
    if not name and importlib.util.find_spec("xllamacpp"):
        return ""
    if found := shutil.which(name or "llama-server"):
        return str(Path(found).resolve())
    if name:
        raise MissingError(
            f"{name}: there is no such llama-server",
            hint="correct engine.server in residency.toml, or leave it empty",
        )
    raise MissingError(
        "no engine is installed", hint="install one with: pip install 'residency[engine]'"
    )


def reason_in(log: Sequence[str]) -> str:
    """Why llama.cpp failed, in its own words: the first error of its log; empty when none.

    The first error is the cause; the lines after it report it upwards. Lines look like
    `0.00.054.188 E llama_model_load: error loading model: unknown model architecture: 'x'`.
    """
    errors = [m[1] for line in log if (m := re.match(r"[\d.]+ E (.*)", line))]
    if not errors:
        return ""
    return re.sub(r"^(\w+ +)?\S+: +(error loading model: )?", "", errors[0])
