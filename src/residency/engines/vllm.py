"""vLLM on the CPU, from an environment of its own (`residency setup vllm`)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from residency import hardware, store
from residency.engines import environments
from residency.engines.client import EngineClient
from residency.engines.hosted import HostedEngine, compare_digest
from residency.engines.vllm_host import KEY_VARIABLE
from residency.errors import EngineLoadError
from residency.types import Message

_EXCEPTION = re.compile(
    # pydantic's, whose cause stands on a line of its own, or any exception.
    r"(?:Value error, |(?:^|\s)(?!\S*ValidationError)[\w.]*(?:Error|Exception): )(.+)"
)


class Vllm(HostedEngine):
    """`residency.engines.base.Engine` on vLLM; the spec's model is a Hugging Face folder."""

    name = "vLLM"
    module = "residency.engines.vllm_host"
    key_variable = KEY_VARIABLE

    def check(self) -> None:
        """Whether vLLM is installed and the folder is the one that it should be."""
        environments.python(environments.VLLM)
        folder = self.spec.model
        if not (folder / "config.json").is_file():
            raise EngineLoadError(f"{folder}: not a model folder (config.json is missing)")
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

    async def apply_template(self, messages: Sequence[Message]) -> str:
        # It shows no rendered prompt: only its tokens, and what they say.
        asked = {"messages": [message.to_dict() for message in messages]}
        tokens = (await self._ask("/tokenize", asked))["tokens"]
        return str((await self._ask("/detokenize", {"tokens": tokens}))["prompt"])

    async def count(self, body: Mapping[str, Any]) -> int:
        asked = {name: body[name] for name in ("messages", "tools") if name in body}
        return int((await self._ask("/tokenize", asked))["count"])

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        body = {"prompt": text, "add_special_tokens": add_special}
        return list((await self._ask("/tokenize", body))["tokens"])

    async def props(self) -> dict[str, Any]:
        return {}  # it says nothing of itself


def reason_in(log: Sequence[str]) -> str:
    """Why vLLM failed, in its own words: the first exception of its log that names a cause.

    The processes above the one that failed add exceptions of their own, which say "see above".
    """
    for line in log:
        found = _EXCEPTION.search(line)
        if found and "See root cause above" not in line:
            return found[1]
    return ""
