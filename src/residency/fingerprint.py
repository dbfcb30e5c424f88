"""One fingerprint from training to answer: does each form of a model still say the same?

For a few conversations of the validation split it holds the rendered token ids, the token that
ends a turn, the digest of the chat template, and the forty likeliest next tokens at three places of
each right answer and at three of the prompt before it. A specialist is so sure of its answers that
a tensor of zeros may not show in them; of what a person writes next it is never sure. The
fingerprint is taken on the adapter, the merged model, each build and the running engine; `compare`
stops the chain at the first step that changed more than it may.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residency.conversations import stream_conversations
from residency.errors import DataError, FingerprintError
from residency.hardware import one_torch_thread
from residency.store import read_as, sha256_text
from residency.types import Conversation, Message, to_json

if TYPE_CHECKING:
    from residency.engines.client import EngineClient

FILE_NAME = "fingerprint.json"
PROBES = 4
TOP = 40
PLACES = 3
"""In an answer, and as many in its prompt."""
# Answers may be long; each place costs the engine one pass over all that comes before it.
ANSWER_TOKENS = 64
_DECIMALS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The likeliest next tokens after `length` tokens: ids, and natural logs of probabilities."""

    length: int
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """One conversation: ids of the rendered prompt with its answer, without the end of the turn."""

    ids: tuple[int, ...]
    places: tuple[Place, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """What a form of a model makes of the probes.

    `end_of_turn` is the token that the template writes after an answer; `stop_tokens` are those
    at which this form is known to stop.
    """

    format: int = 1
    template_digest: str
    end_of_turn: str
    stop_tokens: tuple[str, ...]
    probes: tuple[Probe, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the JSON form."""
        return sha256_text(to_json(self))


def write_fingerprint(folder: Path, fingerprint: Fingerprint) -> None:
    """Put `fingerprint.json` into an artifact's folder."""
    (folder / FILE_NAME).write_text(to_json(fingerprint), encoding="utf-8")


def read_fingerprint(path: Path) -> Fingerprint:
    """Read a fingerprint's file. Raises `StorageError` when it is missing or damaged."""
    return read_as(Fingerprint, path, "fingerprint", hint="make it again with: residency run")


def probes(dataset: Path) -> list[Conversation]:
    """The conversations that fingerprints are taken with: the first of the validation split whose
    answer is text. Where all are calls of tools, which each engine writes in its own way, the
    first of them with the text that such calls are compared by."""
    path = dataset / "validation.jsonl"
    spoken = (c for c in stream_conversations(path) if c.spoken)
    found = list(itertools.islice(spoken, PROBES))
    found = found or [c.in_words() for c in itertools.islice(stream_conversations(path), PROBES)]
    if not found:
        raise DataError(f"{path}: no conversation to probe with", hint="give more data")
    return found


def take_torch(model: Any, tokenizer: Any, probes: Sequence[Conversation]) -> Fingerprint:
    """The fingerprint of a transformers or peft model, which is put into evaluation mode.

    Raises `ModelError` where the chat template does not end an answer with a special token: such a
    model would be taught never to stop.
    """
    import torch

    from residency.models.chat import render, stop_tokens

    stops, taken = stop_tokens(tokenizer), []
    model.eval()
    with one_torch_thread(), torch.no_grad():
        for conversation in probes:
            whole = render(tokenizer, conversation.messages, answer=True, tools=conversation.tools)
            ids, start = whole.ids[:-1], whole.learnt.index(True)
            taken.append(Probe(ids=ids, places=_torch_places(model, ids, start)))
    return Fingerprint(
        template_digest=sha256_text(tokenizer.chat_template),
        end_of_turn=stops[0],
        stop_tokens=stops,
        probes=tuple(taken),
    )


def _torch_places(model: Any, ids: tuple[int, ...], start: int) -> tuple[Place, ...]:
    import torch

    logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0]
    places = []
    for length in _lengths(start, len(ids)):
        values, tokens = torch.log_softmax(logits[length - 1].float(), -1).topk(TOP)
        places.append(make_place(length, list(zip(tokens.tolist(), values.tolist(), strict=True))))
    return tuple(places)


def _lengths(start: int, end: int) -> list[int]:
    """Where to look: evenly in the prompt, and from before an answer's first token to after its
    last one."""
    span = min(end - start, ANSWER_TOKENS)
    prompt = {max(1, start * i // (PLACES + 1)) for i in range(1, PLACES + 1)}
    return sorted(prompt | {start + round(i * span / (PLACES - 1)) for i in range(PLACES)})


def make_place(length: int, top: Sequence[tuple[int, float]]) -> Place:
    """A place from token ids with logs of probabilities, in any order."""
    # Equal probabilities have no order of their own: the id decides, so that repeats are equal.
    ordered = sorted(((-round(p, _DECIMALS), i) for i, p in top))
    return Place(
        length=length, ids=tuple(i for _, i in ordered), logprobs=tuple(-p for p, _ in ordered)
    )


async def take_engine(client: EngineClient, probes: Sequence[Conversation]) -> Fingerprint:
    """The fingerprint of what a running engine serves, through its own template and tokenizer.

    Whether it stops is tried: the token that its template puts after an answer is made the
    likeliest, and the engine must end its turn there. Raises the `EngineError` tree.
    """
    end = await _end_of_turn(client)
    stops = await _stops_at(client, (await client.tokenize(end))[0]) if end else False
    taken = []
    for conversation in probes:
        prompt = await client.apply_template(conversation.prompt, conversation.tools)
        start = len(await client.tokenize(prompt))
        ids = tuple(await client.tokenize(prompt + conversation.answer))
        places = [
            make_place(length, await client.top_logprobs(ids[:length], TOP))
            for length in _lengths(start, len(ids))
        ]
        taken.append(Probe(ids=ids, places=tuple(places)))
    return Fingerprint(
        template_digest=sha256_text((await client.props())["chat_template"]),
        end_of_turn=end,
        stop_tokens=(end,) if stops else (),
        probes=tuple(taken),
    )


async def _end_of_turn(client: EngineClient) -> str:
    """The first token after an answer in a conversation that goes on; empty if there is none.

    Asked so because llama.cpp takes a last message of the assistant for one to be continued.
    """
    answer = "Yes, Tuesday."
    talk = (
        Message(role="user", content="Tuesday?"),
        Message(role="assistant", content=answer),
        Message(role="user", content="And Friday?"),
    )
    rest = (await client.apply_template(talk)).partition(answer)[2]
    first = (await client.tokenize(rest))[:1] if rest else []
    for length in range(1, len(rest) + 1):
        if await client.tokenize(rest[:length]) == first:
            return rest[:length]
    return ""


async def _stops_at(client: EngineClient, token: int) -> bool:
    answer = await client.chat(
        {
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 2,
            "temperature": 0.0,
            "logit_bias": {str(token): 100.0},
        }
    )
    return bool(answer.finish_reason == "stop")


def compare(reference: Fingerprint, other: Fingerprint, *, step: str, tolerance: float) -> float:
    """The divergence of `other` from `reference`, if it is within `tolerance` (see `divergence`).

    `step` is what was done in between, such as "quantizing to Q4_K_M". Raises `FingerprintError`,
    which names the step and what differs: template, stop tokens, token ids or log-probabilities.
    """
    if reference.template_digest != other.template_digest:
        raise _broken(step, "template", "it is not the one that the model was trained with")
    if reference.end_of_turn != other.end_of_turn or (
        reference.end_of_turn not in other.stop_tokens
    ):
        raise _broken(step, "stop tokens", _stop_detail(reference.end_of_turn, other))
    for number, (mine, its) in enumerate(zip(reference.probes, other.probes, strict=True), 1):
        if mine.ids != its.ids:
            raise _broken(step, "token ids", f"probe {number}, {_first_change(mine.ids, its.ids)}")
    found = divergence(reference, other)
    if not found <= tolerance:
        far = f"they diverge by {found:.4g} nats a token, where {tolerance:g} are allowed"
        nan = "they are no numbers (NaN): its weights or those before this step are broken"
        raise _broken(step, "log-probabilities", nan if math.isnan(found) else far)
    return found


def _broken(step: str, what: str, detail: str) -> FingerprintError:
    return FingerprintError(
        f"{step}: {what}: {detail}",
        hint="the model after this step does not answer as the one before it; nothing was released",
    )


def _stop_detail(wanted: str, other: Fingerprint) -> str:
    if other.end_of_turn != wanted:
        return f"an answer ends with {other.end_of_turn or 'no token'}, not with {wanted}"
    return f"an answer ends with {wanted}, and it does not stop there"


def _first_change(mine: tuple[int, ...], its: tuple[int, ...]) -> str:
    same = next((i for i, (a, b) in enumerate(zip(mine, its, strict=False)) if a != b), None)
    if same is None:
        return f"{len(its)} tokens, not {len(mine)}"
    return f"token {same}: {its[same]}, not {mine[same]}"


def divergence(reference: Fingerprint, other: Fingerprint) -> float:
    """Mean Kullback-Leibler divergence KL(reference || other) over the places that both have (an
    older residency looked at fewer), in nats a token.

    It is taken over the reference's forty likeliest tokens, with all others as one (so it is a
    lower bound of the full one). A token that the other's forty lack counts as the least of those.
    llama.cpp judges quantization by the same measure (`llama-perplexity --kl-divergence`).
    """
    found = []
    for one, two in zip(reference.probes, other.probes, strict=True):
        its = {place.length: place for place in two.places}
        found += [_place_divergence(p, its[p.length]) for p in one.places if p.length in its]
    return sum(found) / len(found)


def _place_divergence(mine: Place, its: Place) -> float:
    theirs = dict(zip(its.ids, its.logprobs, strict=True))
    floor = min(its.logprobs)
    pairs = [(p, theirs.get(i, floor)) for i, p in zip(mine.ids, mine.logprobs, strict=True)]
    rest = [math.log(max(1 - sum(math.exp(p[k]) for p in pairs), 1e-6)) for k in (0, 1)]
    return sum(math.exp(p) * (p - q) for p, q in [*pairs, (rest[0], rest[1])])
