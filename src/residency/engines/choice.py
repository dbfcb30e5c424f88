"""Which engine runs a build: what the gate measures is what serves."""

from __future__ import annotations

from residency.engines.hosted import HostedEngine
from residency.engines.llama_cpp import LlamaCpp
from residency.engines.onnx import Onnx
from residency.engines.vllm import Vllm

ENGINES: dict[str, type[HostedEngine]] = {"llama.cpp": LlamaCpp, "vllm": Vllm, "onnx": Onnx}
OF_FORMAT = {"gguf": "llama.cpp", "onnx": "onnx", "gptq": "vllm", "safetensors": "vllm"}


def engine_for(form: str) -> type[HostedEngine]:
    """The engine that serves builds of the format `form` (see `types.Build`)."""
    return ENGINES[OF_FORMAT[form]]
