"""The process that starts vLLM as its child; see `residency.engines.host`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from residency.engines.host import HOST, Program, host

KEY_VARIABLE = "VLLM_API_KEY"
MAIN = Path(__file__).with_name("vllm_main.py")
KV_GIB = 2
"""Memory for keys and values, in GiB: what 2 GiB do not hold at once, vLLM does in turns."""
MAX_LOGPROBS = 40
"""As many as a fingerprint looks at (`fingerprint.TOP`)."""


def _server(spec: dict[str, Any]) -> Program:
    command = [spec["python"], "-P", str(MAIN), "--model", spec["model"], "--host", HOST]
    command += ["--served-model-name", spec["alias"], "--max-model-len", str(spec["context"])]
    command += ["--max-num-seqs", str(spec["slots"]), "--uvicorn-log-level", "warning"]
    # A model's folder may name samplers of its own; a release is asked as the gate asked it.
    command += ["--generation-config", "vllm"]
    # What a fingerprint is taken from.
    command += ["--enable-tokenizer-info-endpoint", "--max-logprobs", str(MAX_LOGPROBS)]
    env = {k: v for k, v in os.environ.items() if not k.startswith("VLLM_") or k == KEY_VARIABLE}
    env |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    env |= {"VLLM_CPU_KVCACHE_SPACE": str(KV_GIB), "VLLM_CPU_OMP_THREADS_BIND": spec["cores"]}
    return Program("vLLM", lambda port: [*command, "--port", str(port)], env)


if __name__ == "__main__":
    host(_server)
