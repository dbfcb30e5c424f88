"""POST /v1/completions, OpenAI's older API: a text goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from residency.serve.answer import Answer, Identity, tokens
from residency.serve.apis.dialect import ChunkWriter, Dialect, tail
from residency.serve.asked import Asked
from residency.serve.schema import SampledRequest, invalid, read, refuse


def _one_text(prompt: Any) -> Any:
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            raise invalid("one text is answered a request, and no list of token ids")
        return prompt[0]
    return prompt


class _CompletionRequest(SampledRequest):
    prompt: Annotated[str, Field(min_length=1), BeforeValidator(_one_text)]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: Annotated[None, refuse("text is written at the end only")] = None
    context: Literal["error"] | None = None


def _parse(body: bytes) -> Asked:
    given = read(_CompletionRequest, body)
    options = given.sampling()
    if given.logprobs is not None:
        options |= {"logprobs": True, "top_logprobs": given.logprobs or 1}
    return Asked(
        api="completions",
        model=given.model,
        prompt=given.prompt,
        options=options,
        n=given.n or 1,
        stream=bool(given.stream),
        usage=given.usage,
        subject=given.user or "",
        echo={"logprobs": given.logprobs},
        wishes=given.wishes(),
    )


def _writer(asked: Asked, who: Identity, answer: Answer) -> ChunkWriter:
    top = asked.echo["logprobs"]

    def form(part: Mapping[str, Any]) -> dict[str, Any]:
        text = part["delta"].get("content") or ""
        content = (part.get("logprobs") or {}).get("content")
        # The answer has the text already.
        start = len(answer.choices[part["index"]].text) - len(text) if content else 0
        return {
            "index": part["index"],
            "text": text,
            "logprobs": _logprobs(content, top, start),
            "finish_reason": part.get("finish_reason"),
        }

    return ChunkWriter("text_completion", form, asked=asked, who=who, answer=answer)


def _logprobs(content: Any, top: int | None, start: int = 0) -> dict[str, Any] | None:
    """The older form: parallel lists; `text_offset` counts characters from the answer's start."""
    if top is None or not content:
        return None
    every = tokens(content, top)
    offsets = []
    for one in every:
        offsets.append(start)
        start += len(one["token"])
    return {
        "tokens": [one["token"] for one in every],
        "token_logprobs": [one["logprob"] for one in every],
        "top_logprobs": [{t["token"]: t["logprob"] for t in one["top_logprobs"]} for one in every],
        "text_offset": offsets,
    }


def _whole(asked: Asked, who: Identity, answer: Answer, facts: Mapping[str, Any]) -> dict[str, Any]:
    choices = [
        {
            "index": index,
            "text": choice.text,
            "logprobs": _logprobs(choice.logprobs, asked.echo["logprobs"]),
            "finish_reason": choice.finish_reason or "stop",
        }
        for index, choice in answer.in_order()
    ]
    usage = answer.usage or None
    return {**who.fields("text_completion"), "choices": choices, "usage": usage, **tail(facts)}


COMPLETIONS = Dialect(
    name="completions",
    path="/v1/completions",
    prefix="cmpl-",
    parse=_parse,
    writer=_writer,
    whole=_whole,
)
