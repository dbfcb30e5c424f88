"""What is not known: ranges by name, and draws from them."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from residency.decide.facts import MONTH, Facts
from residency.decide.prices import Ends, Machine, Prices
from residency.errors import InputError

Array = npt.NDArray[np.float64]

DRAWS, SEED = 10_000, 17
NORMAL_95 = NormalDist().inv_cdf(0.95)
# Where a symmetric triangle of width w has its 5% point x: 2 (x/w)^2 = 0.05.
_TRIANGLE_5 = math.sqrt(0.05 / 2)
_SHARES = ("cached", "leakage", "utilisation")


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """5%, 50% and 95% of the draws."""

    low: float
    mid: float
    high: float


def spreads(values: Array) -> tuple[Range, ...]:
    """The range of each column."""
    rows = np.percentile(values, (5, 50, 95), axis=0).T.tolist()
    return tuple(Range(low=low, mid=mid, high=high) for low, mid, high in rows)


def spread(values: Array) -> Range:
    return spreads(values[:, None])[0]


def inputs(facts: Facts, machine: Machine, billions: float, prices: Prices) -> dict[str, Ends]:
    """All that is uncertain, by name; a range of no width is a known figure.

    Raises `InputError` where the machine is too small for the model.
    """
    speed = prices.speed(machine, billions)
    if speed is None:
        raise InputError(
            f"the machine {machine.about!r} has no speed for {billions:g}B weights",
            hint="choose a larger machine, or add its speed to prices.toml",
        )
    found: dict[str, Ends] = dict(prices.uncertain)
    found |= {
        key: getattr(machine, key)
        for key in ("price", "rent", "months", "watts_busy", "watts_idle")
    }
    found |= {"prompt_speed": speed.prompt, "answer_speed": speed.answer}
    mean = sum(load.calls for load in facts.loads) / MONTH
    if facts.peak and mean:
        ratio = max(1.0, facts.peak / 60 / mean)
        found["peak"] = (ratio, ratio)
    return found


def median(ends: Ends) -> float:
    """Of what is drawn from a range: the geometric mean of its ends, of a triangle their mean."""
    low, high = ends
    return math.sqrt(low * high) if low > 0 else (low + high) / 2


def draw(name: str, ends: Ends, seed: int) -> Array:
    """Draws of one input. Each has dice of its own, so that one range does not move the others."""
    low, high = ends
    dice = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if low == high:
        return np.full(DRAWS, low)
    if low > 0:
        width = math.log(high / low) / (2 * NORMAL_95)
        values = dice.lognormal(math.log(median(ends)), width, DRAWS)
    else:
        beyond = _TRIANGLE_5 * (high - low) / (1 - 2 * _TRIANGLE_5)
        values = dice.triangular(low - beyond, median(ends), high + beyond, DRAWS)
    if name in _SHARES:
        values = np.clip(values, 0, 1)
    return values if name == "growth" else np.maximum(values, 0)
