"""What the engine is asked: the client's request, opened and bounded as the release says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from residency.serve.asked import Asked
from residency.serve.errors import RequestError
from residency.types import Release, with_system

# The gate measures greedy answers, so that is what a client gets who asks for nothing else.
TEMPERATURE = 0.0
SEED = 0


def opened(asked: Asked, release: Release) -> Asked:
    """`asked` with the release's system message, if the client sent none; itself otherwise."""
    messages = with_system(asked.messages, release.system) if asked.messages else ()
    return replace(asked, messages=messages) if len(messages) > len(asked.messages) else asked


def body_of(asked: Asked, release: Release | None) -> dict[str, Any]:
    """The engine's request: that of `/v1/completions` if `asked` has a prompt, which goes to the
    engine as it stands, else that of chat. An API's own defaults (no `release`) stay its own."""
    body: dict[str, Any] = {"model": asked.model}
    if release:
        body = {
            "model": release.model,
            "temperature": TEMPERATURE,
            "seed": SEED,
            "max_tokens": release.max_tokens,
        }
    body |= asked.options
    if asked.prompt is None:
        return body | {"messages": [one.to_dict() for one in asked.messages]}
    if body.get("logprobs"):
        body["logprobs"] = body.pop("top_logprobs")
    return body | {"prompt": asked.prompt}


def check_able(asked: Asked, template: Mapping[str, Any]) -> None:
    """Raises `RequestError` when tools are given to a model whose chat template has no place for
    them: llama.cpp answers as if there were none, even to `tool_choice: "required"`.

    `template` is `chat_template_caps` of the engine's `/props`; vLLM has none.
    """
    if "tools" in asked.options and not template.get("supports_tools", True):
        raise RequestError(
            f"{asked.model} cannot call tools: its chat template or its engine leaves them out",
            code="tools_not_supported",
            param="tools",
        )
