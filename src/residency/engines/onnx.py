"""ONNX Runtime, by way of onnxruntime-genai; its models are made by `residency.export.onnx`."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from residency import store
from residency.engines.hosted import HostedEngine, compare_digest
from residency.engines.onnx_host import KEY_VARIABLE
from residency.errors import EngineLoadError, MissingError


class Onnx(HostedEngine):
    """`residency.engines.base.Engine` on ONNX Runtime; the spec's model is a folder."""

    name = "ONNX Runtime"
    module = "residency.engines.onnx_host"
    key_variable = KEY_VARIABLE

    def check(self) -> None:
        """Whether ONNX Runtime is installed and the folder is the one that it should be."""
        check_installed()
        folder = self.spec.model
        if not (folder / "genai_config.json").is_file():
            raise EngineLoadError(f"{folder}: not an ONNX model (genai_config.json is missing)")
        if self.spec.sha256:
            compare_digest(self.spec, store.digest_tree(folder))

    def described(self) -> Mapping[str, Any]:
        return {}

    def reason(self, log: Sequence[str]) -> str:
        return ""  # its host says it


def check_installed() -> Path:
    """The folder of onnxruntime-genai. Raises `MissingError` without the extra `onnx`."""
    folder = Path()
    for module in ("onnx_ir", "transformers", "onnxruntime_genai"):
        found = importlib.util.find_spec(module)
        if not found or not found.origin:
            raise MissingError(
                f"ONNX Runtime cannot be used: {module} is not installed",
                hint="install it with: pip install 'residency[onnx]'",
            )
        folder = Path(found.origin).parent
    return folder
