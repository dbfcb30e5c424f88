"""What the losses of a run say: is it learning, is it not, does it memorise, does it break.

Everything is measured against the loss before the first step (`Start`), so that no threshold is an
absolute loss: 0.05 is right for JSON of three fields, and memorising for free text. The rules:

- exploding: a figure is no number, or the last three losses all lie above half of what had been
  gained, and by more than sampling error.
- not learning: the loss has fallen by less than a fifth of what it was, on training and on
  validation rows. A fifth is the usual experience of a run that is stuck: 2.5 that stays at 2.0.
- overfitting: less than half of the fall on training rows is there on validation rows too; or the
  validation loss has risen from its best by more than a tenth of what it had gained, while the
  training loss went on falling (a robust slope whose 95% interval is below nought).
- healthy: none of these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

import numpy as np

State = Literal["too early", "healthy", "not learning", "overfitting", "exploding"]
Point = tuple[int, float]

STUCK = 0.2
CARRIED = 0.5
RISEN = 0.1
KNOWN = 0.3
"""Nats a token: at less the base model gives the right token three times in four (e^-0.3)."""
_CONSECUTIVE = 3
_STOOD = 9  # losses in a row; of fewer the lowest median is low by chance, and what follows a rise
_SIGMAS = 4.0  # three in a row beyond four standard errors are no accident
_FEWEST = 4  # losses from which a level and a slope are told
_LIVE = (8, 0.25)  # losses, and share of the run, before a run at work is judged
_SLOPE_POINTS = 60  # the slope looks at every pair
_Z = 1.959963984540054  # the normal distribution's 97.5% point
_MAD = 1.4826  # makes the median absolute deviation of a normal sample its standard deviation


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """The loss before the first step, in nats a token: its mean over `rows` rows of the validation
    split, and the standard deviation from row to row."""

    loss: float
    spread: float
    rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The course of a run, as pairs of step and value. A loss of `train` is over `batch` rows.

    `norms` are the gradient's before it is clipped, `rates` the learning rate; `planned` is the
    number of steps, and `epochs` what these make. `finished` says that no step will follow.
    `train_start` is where `train` began if that is another loss than that of validation rows, as
    with a teacher.
    """

    start: Start
    train: tuple[Point, ...]
    validation: tuple[Point, ...]
    norms: tuple[Point, ...] = ()
    rates: tuple[Point, ...] = ()
    batch: int
    planned: int
    epochs: float
    finished: bool = True
    train_start: float | None = None

    @property
    def began(self) -> float:
        """The training loss before the first step."""
        return self.start.loss if self.train_start is None else self.train_start


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """A state, what was seen in words with figures, and what to do about it."""

    state: State
    words: str
    remedy: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """A try that broke at `rate`, as `words` say; the next began after step `back_to`, at
    `next_rate`."""

    rate: float
    words: str
    back_to: int
    next_rate: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Slope:
    """A loss's change a step, with its 95% interval."""

    value: float
    low: float
    high: float


def history_of(log: Sequence[Mapping[str, Any]], **given: Any) -> History:
    """The course that transformers' `log_history` tells; `given` are the other fields."""

    def points(name: str) -> tuple[Point, ...]:
        return tuple((entry["step"], float(entry[name])) for entry in log if name in entry)

    return History(
        train=points("loss"),
        validation=points("eval_loss"),
        norms=points("grad_norm"),
        rates=points("learning_rate"),
        **given,
    )


def diagnose(history: History) -> Diagnosis:
    """What `history` says so far; of a run at work it may be that it is too early to tell."""
    broken = explosion(history)
    if broken:
        return broken
    if len(history.train) < _FEWEST or not history.validation:
        return Diagnosis(
            state="too early",
            words=f"{len(history.train)} losses and {len(history.validation)} validations are too "
            "few to tell",
            remedy="give more rows or more epochs",
        )
    if not history.finished and _is_early(history):
        return Diagnosis(state="too early", words="it has hardly begun")
    figures = _figures(history)
    for rule in (_stuck, _overfitting):
        found = rule(history, figures)
        if found:
            return found
    return _healthy(history, figures)


def explosion(history: History) -> Diagnosis | None:
    """Whether the run has broken, judged from its last losses; None if not."""
    for name, points in (
        ("loss", history.train),
        ("gradient norm", history.norms),
        ("validation loss", history.validation),
    ):
        for step, value in points:
            if not math.isfinite(value):
                return _exploding(f"the {name} is no number from step {step}", step, value)
    last = history.train[-_CONSECUTIVE:]
    if len(last) < _CONSECUTIVE:
        return None
    began, spread = history.began, _spread(history)
    best = _best([loss for _, loss in history.train[:-_CONSECUTIVE]], began)
    limit = max((began + best) / 2, best + _SIGMAS * spread / math.sqrt(history.batch))
    if min(loss for _, loss in last) <= limit:
        return None
    step, value = last[0]
    words = (
        f"the loss stands at {last[-1][1]:.2f} after {last[-1][0]} steps; it began at "
        f"{began:.2f} and had come to {best:.2f}"
    )
    return _exploding(words, step, value)


def slope(points: Sequence[Point]) -> Slope:
    """The median of the slopes between every two points (Theil 1950), with the interval of Sen
    (1968): outliers up to 29% of the points do not move it. Of one point or none, nothing is
    known."""
    thin = thinned(points, _SLOPE_POINTS)
    n = len(thin)
    if n < 2:
        return Slope(value=0.0, low=-math.inf, high=math.inf)
    steps, losses = (np.array(column, dtype=float) for column in zip(*thin, strict=True))
    one, other = np.triu_indices(n, 1)
    found = np.sort((losses[other] - losses[one]) / (steps[other] - steps[one]))
    # The number of concordant pairs less the discordant ones has this standard deviation.
    reach = _Z * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low, high = math.floor((len(found) - reach) / 2), math.ceil((len(found) + reach) / 2)
    return Slope(
        value=float(np.median(found)),
        low=float(found[low]) if low >= 0 else -math.inf,
        high=float(found[high]) if high < len(found) else math.inf,
    )


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` points, each the mean of neighbours, at the last one's step."""
    size = math.ceil(len(points) / most) or 1
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(group[-1][0], sum(v for _, v in group) / len(group)) for group in groups]


def _spread(history: History) -> float:
    """The standard deviation of a training row's loss, before the first step."""
    return history.start.spread * history.began / history.start.loss


def _best(losses: Sequence[float], start: float) -> float:
    """The lowest that the loss stood at, and not only touched: the median of a few in a row."""
    ends = range(min(len(losses), _STOOD), len(losses) + 1)
    stood = [median(losses[max(0, end - _STOOD) : end]) for end in ends if end]
    return min([start, *stood])


def _exploding(words: str, step: int, value: float) -> Diagnosis:
    return Diagnosis(
        state="exploding",
        words=words,
        remedy="lower learning_rate in [train], and look for damaged rows with: "
        "residency data preview",
        figures={"step": step, "loss": value} if math.isfinite(value) else {"step": step},
    )


def _is_early(history: History) -> bool:
    least, share = _LIVE
    return len(history.train) < least or history.train[-1][0] < share * history.planned


def _figures(history: History) -> dict[str, float]:
    """Where the losses stand; `fall` is a share of the start with the half of its 95% interval,
    `carried` the share of the fall on training rows that validation rows show too."""
    start, began = history.start.loss, history.began
    losses = np.array([loss for _, loss in history.train])
    last = losses[-max(_FEWEST - 1, len(losses) // 4) :]
    level = float(np.median(last))
    # A median's standard error is that of a mean times the root of pi / 2.
    noise = _MAD * float(np.median(np.abs(last - level))) * math.sqrt(math.pi / 2 / len(last))
    doubt = math.hypot(noise, _spread(history) / math.sqrt(history.start.rows))
    best_step, best = min(history.validation, key=lambda point: (point[1], point[0]))
    now = history.validation[-1][1]
    fall, fall_there = 1 - level / began, 1 - now / start
    return {
        "began": began,
        "train": level,
        "fall": fall,
        "fall_doubt": _Z * doubt / began,
        "start": start,
        "best": best,
        "best_step": best_step,
        "validation": now,
        "carried": fall_there / fall if fall > 0 else 1.0,
    }


def _stuck(history: History, f: dict[str, float]) -> Diagnosis | None:
    done = history.train[-1][0]
    fell = max(f["fall"], 1 - f["best"] / f["start"])
    if f["start"] <= KNOWN or fell >= STUCK:
        return None
    words = (
        f"the loss was {f['began']:.2f} before training and is {f['train']:.2f} after {done} "
        f"steps, a fall of {_percent(f['fall'])} (give or take {_percent(f['fall_doubt'])}); on "
        f"validation rows {f['best']:.2f} at best"
    )
    remedy = "raise learning_rate three times, and look at what is learnt: residency data preview"
    return Diagnosis(state="not learning", words=words, remedy=remedy, figures=f)


def _overfitting(history: History, f: dict[str, float]) -> Diagnosis | None:
    gained = f["start"] - f["best"]
    risen = f["validation"] - f["best"]
    after = [point for point in history.train if point[0] >= f["best_step"]]
    rising = gained > 0 and risen > RISEN * gained and slope(after).high < 0
    learnt = f["fall"] >= STUCK and f["start"] > KNOWN
    if not rising and not (learnt and f["carried"] < CARRIED):
        return None
    words = (
        f"the loss fell from {f['began']:.2f} to {f['train']:.2f} on training rows, but stands at "
        f"{f['validation']:.2f} on validation rows ({_percent(max(f['carried'], 0.0))} of the fall)"
    )
    if risen > 0:
        words += f"; there it was best at step {f['best_step']:.0f}, {f['best']:.2f}"
    epochs = history.epochs * f["best_step"] / max(history.planned, 1)
    fewer = f"epochs = {max(epochs, 0.1):.1f}, " if risen > 0 else ""
    return Diagnosis(
        state="overfitting",
        words=words,
        remedy=f"{fewer}dropout = 0.1 or half the rank in [train], and above all more and more "
        "varied rows; the weights that are kept are those of the best validation",
        figures=f,
    )


def _healthy(history: History, f: dict[str, float]) -> Diagnosis:
    words = (
        f"the loss fell from {f['began']:.2f} to {f['train']:.2f} on training rows and to "
        f"{f['best']:.2f} on validation rows"
    )
    if f["start"] <= KNOWN:
        remedy = "the base model knew nearly all of it before: see whether the gate needs training"
        return Diagnosis(state="healthy", words=words, remedy=remedy, figures=f)
    recent = [point for point in history.train if point[0] > history.planned / 2]
    trend = slope(recent)
    # What another run of this length would bring at the pace of the second half.
    more = -trend.high * history.planned / f["began"]
    at_best = f["best_step"] == history.validation[-1][0] and len(history.validation) > 1
    falling = history.finished and at_best and more > RISEN
    remedy = (
        f"it was still falling at the end: epochs = {2 * history.epochs:g} would bring more"
        if falling
        else ""
    )
    return Diagnosis(state="healthy", words=words, remedy=remedy, figures=f)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"
