"""Fit the gate's measure of free text: `python scripts/fit_similarity.py [--check]`.

Of the labelled pairs in src/residency/gate/pairs.tsv every other one of each language and kind is
fitted on; the rest is held out, and measures what was fitted. Writes similarity.json beside it, and
prints how the measure does beside the overlap of words alone; or with --check says whether the file
is what the script gives. Without the sentence encoder on this
machine, only the coefficients by words alone are checked, and nothing is written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from residency.errors import MissingError
from residency.gate import intervals
from residency.gate.similar import FEATURES, FOR, Encodes, contradict, features
from residency.types import to_dict
from residency.words import unspaced

GATE = Path(__file__).parents[1] / "src/residency/gate"
ALIKE = ("same", "light")
PENALTY = 0.1  # of the squared weights; between 0.03 and 0.3 it hardly matters
# Of a coefficient, on another machine. The encoder's int8 kernels for AVX2 move the cosine's by
# 0.0063 from what those for AVX-512 give; a logit off by 0.01 is a probability off by 0.0025.
TOLERANCE = {"words": 2e-3, "encoder": 1e-2}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    kind: str
    one: str
    other: str

    @property
    def alike(self) -> bool:
        return self.kind in ALIKE

    @property
    def language(self) -> str:
        return "zh" if any(map(unspaced, self.one)) else "en"


def pairs() -> list[Pair]:
    lines = (GATE / "pairs.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return [Pair(kind=kind, one=one, other=other) for kind, _, one, other in rows]


def fit(found: NDArray[np.float64], alike: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights, and the bias last. What two texts share never counts against them, nor what they
    contradict each other in for them, whatever a few pairs may say."""
    whole = np.c_[found, np.ones(len(found))]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        sums = whole @ weights
        held = np.r_[weights[:-1], 0]
        value = np.sum(np.logaddexp(0, sums) - alike * sums) + PENALTY / 2 * np.sum(held**2)
        return value, whole.T @ (1 / (1 + np.exp(-sums)) - alike) + PENALTY * held

    bounds = [(0, None) if name in FOR else (None, 0) for name in FEATURES] + [(None, None)]
    start = np.zeros(len(FEATURES) + 1)
    return np.asarray(minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x)


def threshold(scores: NDArray[np.float64], alike: NDArray[np.float64]) -> float:
    """Where most pairs are judged right; of several such places that nearest to a half."""
    ordered = np.unique(scores)
    places = [*((ordered[1:] + ordered[:-1]) / 2), 0.5]
    return float(min(places, key=lambda at: (-np.sum((scores >= at) == alike), abs(at - 0.5))))


def fitted(encoder: Encodes | None) -> dict[str, Any]:
    """The coefficients, and how they do on what was held out."""
    known = pairs()
    ones, others = [p.one for p in known], [p.other for p in known]
    found = features(ones, others, encoder)
    alike = np.array([float(p.alike) for p in known])
    told = np.array([contradict(p.one, p.other) for p in known])
    half = np.arange(len(known)) % 2 == 0
    chosen = half & ~told
    weights = fit(found[chosen], alike[chosen])
    scores = 1 / (1 + np.exp(-(found @ weights[:-1] + weights[-1])))
    at = threshold(scores[chosen], alike[chosen])
    right = ((scores >= at) & ~told) == alike
    return {
        "weights": {n: round(float(w), 4) for n, w in zip(FEATURES, weights, strict=False) if w},
        "bias": round(float(weights[-1]), 4),
        "threshold": round(at, 4),
        "held_out": held_out(known, right, ~half),
    }


def overlap_alone() -> dict[str, Any]:
    """How token F1 by itself does on what was held out: what the measure must beat."""
    known = pairs()
    scores = features([p.one for p in known], [p.other for p in known], None)[:, 0]
    alike = np.array([p.alike for p in known])
    half = np.arange(len(known)) % 2 == 0
    right = (scores >= threshold(scores[half], alike[half].astype(float))) == alike
    return {"held_out": held_out(known, right, ~half)}


def held_out(
    known: list[Pair], right: NDArray[np.bool_], half: NDArray[np.bool_]
) -> dict[str, Any]:
    """The share that is judged right, with its interval: in all, by language, by kind."""
    groups: dict[str, list[bool]] = {}
    for pair, correct, held in zip(known, right, half, strict=True):
        if held:
            for name in ("all", pair.language, f"{pair.language} {pair.kind}"):
                groups.setdefault(name, []).append(bool(correct))
    return {name: to_dict(intervals.rate(hits)) for name, hits in groups.items()}


def numbers(fit: Mapping[str, Any]) -> Iterable[float]:
    return [*(fit["weights"].get(name, 0.0) for name in FEATURES), fit["bias"], fit["threshold"]]


def main() -> int:
    result = {"words": fitted(None)}
    try:
        from residency.models.encoder import Encoder

        encoder = Encoder(characters=False)
        result["encoder"] = {"identity": encoder.identity, **fitted(encoder)}
    except MissingError as error:
        print(error.message, file=sys.stderr)
    path = GATE / "similarity.json"
    if "--check" in sys.argv or "encoder" not in result:
        shipped = json.loads(path.read_text(encoding="utf-8"))
        wrong = [
            name
            for name, one in result.items()
            if not np.allclose([*numbers(one)], [*numbers(shipped[name])], atol=TOLERANCE[name])
            or one.get("identity") != shipped[name].get("identity")
        ]
        print("\n".join(f"similarity.json is not what {name} gives" for name in wrong))
        return bool(wrong)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, one in {"overlap": overlap_alone(), **result}.items():
        for group, rate in one["held_out"].items():
            if " " not in group or group.endswith((" same", " other")):
                print(f"{name} {group}: {rate['value']:.3f} ({rate['low']:.3f}-{rate['high']:.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
