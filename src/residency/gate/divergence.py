"""How far a build's next-token distribution has moved from the full-precision model's.

Over the user's own text: perplexity, Kullback-Leibler divergence KL(reference || build) in nats a
token, and how often both have the same likeliest token. These are the measures of llama.cpp's
`llama-perplexity --kl-divergence`, and bench/kld.py holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from residency.gate.intervals import RESAMPLES, SEED
from residency.progress import Progress
from residency.types import Conversation, Rate

if TYPE_CHECKING:
    from residency.engines.client import EngineClient

Floats = NDArray[np.floating[Any]]
Source = Callable[[Sequence[int], int], Iterator[NDArray[np.float32]]]
"""`residency.engines.logits.Logits.read` of one model file."""
_DIGITS = 8  # Q8_0 diverges by less than 0.001


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """Token ids; those from `answer` on are the answer, those from `first` on are scored."""

    ids: tuple[int, ...]
    answer: int
    first: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Each over all positions, with its 95% interval; divergences in nats a token.

    The interval is a percentile bootstrap over texts, whose tokens go together: from a single text
    it is no wider than its value. `perplexity` is exp of the mean negative log-likelihood.
    """

    perplexity: Rate
    reference_perplexity: Rate
    kld: Rate
    kld_p99: Rate
    same_top: Rate


@dataclass(frozen=True, kw_only=True, slots=True)
class Divergence:
    """`answers` over the answers' tokens, `everything` over all; none where there is a `fault`."""

    fault: str
    answers: Figures | None
    everything: Figures | None


async def read_texts(
    client: EngineClient, conversations: Sequence[Conversation], end: str
) -> list[Text]:
    """The conversations as the running engine renders them, `end` being the token of their end."""
    found = []
    for one in conversations:
        prompt = await client.apply_template(one.prompt, one.tools)
        ids = tuple(await client.tokenize(prompt + one.answer + end))
        found.append(Text(ids=ids, answer=len(await client.tokenize(prompt))))
    return found


def measure(
    reference: Source, builds: Mapping[str, Source], texts: Sequence[Text]
) -> dict[str, Divergence]:
    """How far each of `builds` is from `reference` on `texts`.

    All are asked at once, so that the reference is computed once; of each only a few positions are
    in memory. Raises `EngineError`.
    """
    scores: dict[str, list[Floats]] = {name: [] for name in builds}
    with Progress("distributions, texts", len(texts)) as progress:
        for text in texts:
            _score(reference, builds, text, scores)
            progress.advance(1)
    number = np.repeat(np.arange(len(texts)), [len(one.ids) - one.first for one in texts])
    answer = np.concatenate([np.arange(one.first, len(one.ids)) >= one.answer for one in texts])
    return {name: _summary(np.concatenate(parts), number, answer) for name, parts in scores.items()}


def _score(
    reference: Source, builds: Mapping[str, Source], text: Text, scores: dict[str, list[Floats]]
) -> None:
    said, first = text.ids[:-1], text.first - 1
    targets = np.asarray(text.ids[text.first :])
    streams = [source(said, first) for source in (reference, *builds.values())]
    at = 0
    for right, *others in zip(*streams, strict=True):
        wanted = targets[at : at + len(right)]
        for parts, other in zip(scores.values(), others, strict=True):
            parts.append(compare(right, other, wanted))
        at += len(right)


def compare(
    reference: NDArray[np.float32], other: NDArray[np.float32], targets: NDArray[np.int_]
) -> Floats:
    """A row for each position: divergence, same top (0 or 1), and both negative log-likelihoods.

    Not finite where logits are not.
    """
    with np.errstate(invalid="ignore"):
        x, y = (logits - logits.max(axis=1, keepdims=True) for logits in (reference, other))
        weights = np.exp(x)
        total = weights.sum(axis=1, dtype=np.float64)
        log_x, log_y = np.log(total), np.log(np.exp(y).sum(axis=1, dtype=np.float64))
        kld = np.einsum("ij,ij->i", weights, x - y) / total - log_x + log_y
    rows = np.arange(len(targets))
    return np.stack(
        [
            np.maximum(kld, 0.0),  # less is rounding
            x.argmax(axis=1) == y.argmax(axis=1),
            log_x - x[rows, targets],
            log_y - y[rows, targets],
        ],
        axis=1,
    )


def _summary(scores: Floats, number: NDArray[np.int_], answer: NDArray[np.bool_]) -> Divergence:
    broken = ~np.isfinite(scores)
    for whose, column in (("the reference ", 2), ("", 0)):
        if count := int(broken[:, column].sum()):
            fault = f"{whose}produces NaN or infinite logits at {count} of {len(scores)} positions"
            return Divergence(fault=fault, answers=None, everything=None)
    return Divergence(
        fault="",
        answers=_figures(scores[answer], number[answer]),
        everything=_figures(scores, number),
    )


def _figures(scores: Floats, number: NDArray[np.int_]) -> Figures:
    """`number` says of which text each row is."""
    _, text = np.unique(number, return_inverse=True)
    size = np.bincount(text)
    sums = np.stack([np.bincount(text, column) for column in scores.T], axis=1)
    drawn = np.random.default_rng(SEED).multinomial(
        len(size), [1 / len(size)] * len(size), RESAMPLES
    )
    means = (drawn @ sums) / (drawn @ size)[:, None]
    value, n = scores.mean(axis=0), len(scores)
    kld, same, expected, found = (_rate(v, m, n) for v, m in zip(value, means.T, strict=True))
    return Figures(
        perplexity=_exp(found),
        reference_perplexity=_exp(expected),
        kld=kld,
        kld_p99=_rate(float(np.quantile(scores[:, 0], 0.99)), _p99(scores[:, 0], text, drawn), n),
        same_top=same,
    )


def _p99(values: Floats, text: NDArray[np.int_], drawn: NDArray[np.int_]) -> Floats:
    """The 99th percentile of each resample, without making one: texts weigh as they were drawn."""
    order = np.argsort(values)
    found = []
    for weights in drawn:
        reached = weights[text[order]].cumsum()
        found.append(values[order[np.searchsorted(reached, 0.99 * reached[-1])]])
    return np.asarray(found)


def _rate(value: float, resampled: Floats, n: int) -> Rate:
    low, high = np.percentile(resampled, [2.5, 97.5])
    ends = (value, min(low, value), max(high, value))
    value, low, high = (round(float(one), _DIGITS) for one in ends)
    return Rate(value=value, low=low, high=high, n=n)


def _exp(log: Rate) -> Rate:
    value, low, high = (round(float(np.exp(v)), 6) for v in (log.value, log.low, log.high))
    return Rate(value=value, low=low, high=high, n=log.n)
