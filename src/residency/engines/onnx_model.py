"""A model on ONNX Runtime that answers several prompts in turns, a token each.

onnxruntime-genai holds the interpreter while it computes, so threads would gain nothing: each
answer is a coroutine that lets the others go on after every step. Each has a batch of its own, so
nobody's numbers depend on who else is asking.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from residency.engines.decoding import OUT, Numbers, Stops, Wishes, likeliest, log_softmax, scores
from residency.models.chat import load_tokenizer, render, stop_tokens
from residency.types import Message, Tools

CHUNK = 64
"""Tokens of a prompt that are read at once: the others wait for so long."""
BLANKS = 2
"""Blank tokens in a row that a JSON answer may have. The grammar sets no bound, and small models
would go on with them to the end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """What one step adds to an answer. `logprobs` is OpenAI's entry of the token, if asked for;
    `finish` is empty until the last one, and `stop` then the stop string that was met."""

    text: str
    logprobs: Mapping[str, Any] | None = None
    finish: str = ""
    stop: str = ""


class OnnxModel:
    """The folder that `residency.export.onnx` makes. Belongs to one event loop."""

    def __init__(self, folder: Path, *, context: int, slots: int, threads: int) -> None:
        import onnxruntime_genai as genai

        genai.disable_telemetry_events()
        self._genai = genai
        config = genai.Config(str(folder))
        config.overlay(json.dumps({"model": _settings(threads)}))
        self._model = genai.Model(config)
        self.tokenizer: Any = load_tokenizer(folder)
        self._stop_ids = {i for stop in stop_tokens(self.tokenizer) for i in self.tokens(stop)}
        known = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
        self.context = min(context, known["model"]["context_length"])
        self._slots = asyncio.Semaphore(slots)

    def prompt(self, messages: Sequence[Message], tools: Tools = ()) -> str:
        """The prompt that the chat template makes. Raises `ModelError`."""
        return render(self.tokenizer, messages, answer=False, tools=tools).text

    def tokens(self, text: str, *, add_special: bool = False) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=add_special)["input_ids"])

    async def next(self, ids: Sequence[int], count: int) -> list[tuple[int, float]]:
        """The `count` likeliest tokens after `ids`, with natural logs of their probabilities."""
        async with self._slots:
            generator = self._generator(len(ids) + 1)
            await _read(generator, ids)
            logprobs = log_softmax(_logits(generator))
            return [(token, float(logprobs[token])) for token in likeliest(logprobs, count)]

    async def answer(
        self, ids: Sequence[int], wishes: Wishes, schema: Mapping[str, Any] | None
    ) -> AsyncIterator[Piece]:
        """The answer to a prompt that leaves room for it. Raises `RuntimeError`.

        Close the iterator to leave early: nothing more is computed then.
        """
        room = min(wishes.max_tokens or self.context, self.context - len(ids))
        async with self._slots:
            generator = self._generator(len(ids) + room, schema)
            await _read(generator, ids)
            blanks = self._blanks if schema is not None else []
            async for piece in self._write(generator, room, wishes, blanks):
                yield piece

    async def _write(
        self, generator: Any, room: int, wishes: Wishes, blanks: list[int]
    ) -> AsyncIterator[Piece]:
        from tokenizers.decoders import DecodeStream

        stream, stops = DecodeStream(skip_special_tokens=True), Stops(wishes.stop)
        chance = np.random.default_rng(wishes.seed)
        written, blank = np.zeros(len(_logits(generator)), np.float32), 0
        for left in range(room - 1, -1, -1):
            logits = _logits(generator)
            found = scores(logits, wishes, written, chance)
            if blank >= BLANKS:
                found[blanks] -= OUT
            generator.set_logits(found.reshape(1, 1, -1))
            generator.generate_next_token()
            token = int(generator.get_next_tokens()[0])
            written[token] += 1
            blank = blank + 1 if token in blanks else 0
            ended = token in self._stop_ids or (left and generator.is_done())
            said = None if ended else stream.step(self.tokenizer.backend_tokenizer, token)
            text = stops.add(said or "")
            finish = "stop" if ended or stops.found else "" if left else "length"
            yield Piece(
                text=text + (stops.rest() if finish else ""),
                logprobs=None if ended else self._told(logits, token, wishes.alternatives),
                finish=finish,
                stop=stops.found,
            )
            if finish:
                return
            await asyncio.sleep(0)

    def _generator(self, length: int, schema: Mapping[str, Any] | None = None) -> Any:
        params = self._genai.GeneratorParams(self._model)
        params.set_search_options(max_length=length, do_sample=False)
        if schema is not None:
            params.set_guidance("json_schema", json.dumps(schema))
        return self._genai.Generator(self._model, params)

    @cached_property
    def _blanks(self) -> list[int]:
        """The tokens that are nothing but whitespace."""
        every = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
        return [i for i, text in enumerate(every) if text.isspace()]

    def _told(self, logits: Numbers, token: int, count: int | None) -> dict[str, Any] | None:
        """OpenAI's log-probabilities: of the raw distribution, as llama.cpp gives them."""
        if count is None:
            return None
        logprobs = log_softmax(logits)
        top = [self._entry(logprobs, other) for other in likeliest(logprobs, count)]
        return {**self._entry(logprobs, token), "top_logprobs": top}

    def _entry(self, logprobs: Numbers, token: int) -> dict[str, Any]:
        text = self.tokenizer.decode([token])
        whole = "\ufffd" not in text  # else it is a part of a character, whose bytes are not known
        known = list(text.encode()) if whole else None
        return {"token": text, "logprob": float(logprobs[token]), "bytes": known}


def _settings(threads: int) -> dict[str, Any]:
    # Threads that spin while they wait take the core from the one that they wait for: beside busy
    # neighbours decoding was 1.6 to 1.9 times as fast without.
    session = {"intra_op_num_threads": threads, "session.intra_op.allow_spinning": "0"}
    # A prompt's first part that ends with the padding token is read as one that lacks it, and many
    # models end a turn with that token (microsoft/onnxruntime-genai, issue 1682). Nothing is padded
    # here.
    return {"decoder": {"session_options": session}, "pad_token_id": -1}


async def _read(generator: Any, ids: Sequence[int]) -> None:
    for start in range(0, len(ids), CHUNK):
        generator.append_tokens(np.array(ids[start : start + CHUNK], np.int32))
        await asyncio.sleep(0)


def _logits(generator: Any) -> Numbers:
    """The logits after the last token. Raises `RuntimeError` where they are no numbers."""
    found: Numbers = generator.get_logits().reshape(-1)
    if np.isnan(found).any():
        raise RuntimeError("the model computes NaN: its weights or its conversion are broken")
    return found
