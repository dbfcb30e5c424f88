"""vLLM on the CPU, from an environment of its own (`residency setup vllm`)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from residency import hardware, store
from residency.engines import environments
from residency.engines.client import EngineClient, Load, chat_of
from residency.engines.hosted import HostedEngine, compare_digest
from residency.engines.vllm_host import KEY_VARIABLE
from residency.errors import EngineLoadError
from residency.types import Message, Tools

_EXCEPTION = re.compile(
    # pydantic's, whose cause stands on a line of its own, or any exception.
    r"(?:Value error, |(?:^|\s)(?!\S*ValidationError)[\w.]*(?:Error|Exception): )(.+)"
)

# Of a model's weights: several to an integer, by the format in its config.json.
_PACKED = ("pack-quantized", "gptq", "awq")

_GAUGES = re.compile(r"^vllm:(num_requests_running|kv_cache_usage_perc)(?:\{.*\})? (\S+)$", re.M)


class Vllm(HostedEngine):
    """`residency.engines.base.Engine` on vLLM; the spec's model is a Hugging Face folder."""

    name = "vLLM"
    module = "residency.engines.vllm_host"
    key_variable = KEY_VARIABLE

    def check(self) -> None:
        """Whether vLLM is installed, the folder is the one that it should be, and runs here."""
        environments.python(environments.VLLM)
        folder = self.spec.model
        if not (folder / "config.json").is_file():
            raise EngineLoadError(f"{folder}: not a model folder (config.json is missing)")
        if why := unsupported(folder / "config.json", hardware.read().flags):
            hint = "serve a GGUF on llama.cpp, or this one on a processor with AVX-512"
            raise EngineLoadError(f"{folder}: {why}", hint=hint)
        if self.spec.sha256:
            compare_digest(self.spec, store.digest_tree(folder))

    def described(self) -> Mapping[str, Any]:
        cores = sorted(os.sched_getaffinity(0))[: self.spec.threads or hardware.free_cores()]
        python = environments.python(environments.VLLM)
        return {"python": str(python), "cores": ",".join(map(str, cores))}

    def reason(self, log: Sequence[str]) -> str:
        return reason_in(log)

    def client(self, timeout: float) -> EngineClient:
        return VllmClient(self.url, self.key, timeout)


class VllmClient(EngineClient):
    """Asks vLLM, whose paths for tokens differ from llama.cpp's."""

    async def apply_template(self, messages: Sequence[Message], tools: Tools = ()) -> str:
        # It shows no rendered prompt: only its tokens, and what they say.
        tokens = (await self._ask("/tokenize", chat_of(messages, tools)))["tokens"]
        return str((await self._ask("/detokenize", {"tokens": tokens}))["prompt"])

    async def count(self, body: Mapping[str, Any]) -> int:
        asked = {name: body[name] for name in ("messages", "tools") if name in body}
        return int((await self._ask("/tokenize", asked))["count"])

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        body = {"prompt": text, "add_special_tokens": add_special}
        return list((await self._ask("/tokenize", body))["tokens"])

    async def top_logprobs(self, ids: Sequence[int], k: int) -> list[tuple[int, float]]:
        """See `EngineClient.top_logprobs`; vLLM's are of the raw distribution too."""
        body = {
            "prompt": list(ids),
            "max_tokens": 1,
            "logprobs": k,
            "temperature": 0.0,
            "ignore_eos": True,  # a turn may end here
            "return_tokens_as_token_ids": True,
        }
        answer = await self._ask("/v1/completions", body)
        # The one that it took comes on top of the k likeliest.
        top: dict[str, float] = answer["choices"][0]["logprobs"]["top_logprobs"][0]
        found = [(int(name.removeprefix("token_id:")), value) for name, value in top.items()]
        return sorted(found, key=lambda one: -one[1])[:k]

    async def props(self) -> dict[str, Any]:
        """Its tokenizer's settings, `chat_template` among them."""
        return dict(json.loads(await self._told("/tokenizer_info")))

    async def load(self) -> Load | None:
        told = dict(_GAUGES.findall(await self._told("/metrics")))
        if "num_requests_running" not in told:
            return None
        cache = told.get("kv_cache_usage_perc")  # a share, whatever its name says
        busy = round(float(told["num_requests_running"]))
        return Load(slots=None, busy=busy, cache=float(cache) if cache else None)


def unsupported(config: Path, flags: Collection[str]) -> str:
    """Why vLLM cannot run a model with this config.json on a processor with `flags`; or "".

    Its kernel for packed weights (cpu_gemm_wna16) is in `_C_AVX512` and not in `_C_AVX2`, which it
    loads on other x86 processors (vllm/platforms/cpu.py). Raises `EngineLoadError` for a file that
    is no JSON object.
    """
    try:
        told = json.loads(config.read_text(encoding="utf-8")).get("quantization_config") or {}
    except (ValueError, AttributeError) as error:
        raise EngineLoadError(f"{config}: not readable ({error})") from None
    packed = told.get("format", told.get("quant_method")) in _PACKED
    if packed and "avx2" in flags and "avx512f" not in flags:
        return "vLLM has no kernel for weights in 4 bits on this processor, which lacks AVX-512"
    return ""


def reason_in(log: Sequence[str]) -> str:
    """Why vLLM failed, in its own words: the first exception of its log that names a cause.

    The processes above the one that failed add exceptions of their own, which say "see above".
    """
    for line in log:
        found = _EXCEPTION.search(line)
        if found and "See root cause above" not in line:
            return found[1]
    return ""
