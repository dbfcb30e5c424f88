"""The doctor on curves; test_doctor.py has runs that really are so."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.train.diagnosis import Diagnosis, History, Start, diagnose, slope, thinned


def course(
    train: list[float],
    validation: list[float],
    *,
    start: float = 2.5,
    finished: bool = True,
    planned: int = 0,
    norms: list[float] | None = None,
) -> History:
    """Losses at every step, validations spread evenly over them."""
    every = max(1, len(train) // max(1, len(validation)))
    return History(
        start=Start(loss=start, spread=0.5, rows=30),
        train=tuple(enumerate(train, 1)),
        validation=tuple((n * every, loss) for n, loss in enumerate(validation, 1)),
        norms=tuple(enumerate(norms or [], 1)),
        batch=4,
        planned=planned or len(train),
        epochs=3.0,
        finished=finished,
    )


def falling(to: float, steps: int = 60, start: float = 2.5, noise: float = 0.15) -> list[float]:
    dice = random.Random(3)
    return [
        to + (start - to) * math.exp(-6 * n / steps) + dice.gauss(0, noise * to)
        for n in range(steps)
    ]


def found(*args: object, **more: object) -> Diagnosis:
    return diagnose(course(*args, **more))  # type: ignore[arg-type]


def test_a_healthy_run() -> None:
    """The usual one, 2.5 to 1.0; and the shipped task's, whose loss may come near nought."""
    assert found(falling(1.0), [1.6, 1.2, 1.1]).state == "healthy"
    assert found(falling(0.04), [0.2, 0.09, 0.05]).state == "healthy"


def test_a_run_that_ends_too_soon_is_told_to_go_on() -> None:
    line = [2.5 - 1.5 * n / 60 for n in range(60)]
    ended = found(line, [2.0, 1.5, 1.0])
    assert ended.state == "healthy"
    assert "epochs = 6" in ended.remedy
    assert not found(falling(1.0), [1.6, 1.2, 1.1]).remedy


def test_a_stuck_run() -> None:
    dice = random.Random(1)
    flat = [2.4 + dice.gauss(0, 0.2) for _ in range(60)]
    stuck = found(flat, [2.45, 2.44, 2.43])
    assert stuck.state == "not learning"
    assert "2.50 before training" in stuck.words
    assert "learning_rate" in stuck.remedy


def test_stuck_is_not_said_of_a_run_that_has_hardly_begun() -> None:
    flat = [2.5] * 10
    assert found(flat, [2.5], finished=False, planned=100).state == "too early"
    assert found(flat, [2.5], finished=False, planned=40).state == "not learning"
    assert found([2.5, 2.4], [2.5]).state == "too early"


def test_a_base_model_that_knew_it_is_not_stuck() -> None:
    knew = found([0.2] * 20, [0.2, 0.2], start=0.2)
    assert knew.state == "healthy"
    assert "knew" in knew.remedy


def test_memorising() -> None:
    """Training rows come near nought, validation rows stay."""
    over = found(falling(0.02), [2.0, 2.1, 2.2])
    assert over.state == "overfitting"
    assert "at step 20" in over.words
    assert "epochs = 1.0" in over.remedy


def test_validation_that_rises_while_training_goes_on_falling() -> None:
    train = [2.5 - 1.9 * n / 60 for n in range(60)]
    assert found(train, [1.2, 1.0, 1.1, 1.3]).state == "overfitting"
    assert found(train, [1.2, 1.0, 1.0, 1.02]).state == "healthy"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["train", "validation", "norms"])
def test_what_is_no_number_has_exploded(where: str, bad: float) -> None:
    curves = {"train": falling(1.0), "validation": [1.5, 1.2], "norms": [1.0] * 60}
    curves[where][1] = bad
    broken = found(**curves)
    assert broken.state == "exploding"
    assert "no number" in broken.words


def test_a_loss_that_jumps_and_stays() -> None:
    before = falling(0.5, 30)
    broken = found([*before, 1.9, 2.2, 2.8], [0.8])
    assert broken.state == "exploding"
    assert broken.figures["step"] == 31
    assert "began at 2.50" in broken.words


def test_a_loss_that_rises_from_the_first_step() -> None:
    assert found([2.5, 6.0, 9.0, 9.5, 9.1], [9.0]).state == "exploding"


def test_a_spike_that_passes_is_borne() -> None:
    before, after = falling(0.5, 30), [0.5] * 20
    assert found([*before, 2.2, 2.1, *after], [0.8, 0.6]).state == "healthy"


@given(st.integers(0, 400))
def test_noise_alone_explodes_no_run(seed: int) -> None:
    """Rows that differ by a standard deviation of 0.5, four a step, at the level of the start."""
    dice = random.Random(seed)
    losses = [2.5 + dice.gauss(0, 0.25) for _ in range(100)]
    for end in range(3, 100):
        assert found(losses[:end], [2.5], finished=False, planned=1000).state != "exploding"


def test_the_slope_is_that_of_the_line_in_spite_of_outliers() -> None:
    dice = random.Random(2)
    line = [(n, 3 - 0.01 * n + dice.gauss(0, 0.02)) for n in range(50)]
    wild = [(n, 50.0) if n % 7 == 0 else (n, v) for n, v in line]
    made = slope(wild)
    assert made.low < -0.01 < made.high
    assert made.high < 0
    assert slope([(1, 2.0)]).high == math.inf


@given(st.integers(0, 10_000))
def test_a_slope_interval_of_noise_mostly_holds_nought(seed: int) -> None:
    dice = random.Random(seed)
    held = 0
    for _ in range(20):
        made = slope([(n, dice.gauss(0, 1)) for n in range(30)])
        held += made.low <= 0 <= made.high
    assert held >= 13  # 95% of 20 is 19; 12 or fewer happen three times in a million


def test_a_teacher_s_loss_is_of_another_size() -> None:
    """The training loss is a tenth of the answers' loss, and falls as that does."""
    small = [loss / 10 for loss in falling(1.0)]
    given = dataclasses.replace(course(small, [1.6, 1.2, 1.1]), train_start=0.25)
    assert diagnose(given).state == "healthy"
    risen = dataclasses.replace(given, train=(*given.train, (61, 0.4), (62, 0.5), (63, 0.6)))
    assert diagnose(risen).state == "exploding"


def test_thinned_points_keep_the_mean_and_the_last_step() -> None:
    points = [(n, float(n)) for n in range(1, 102)]
    thin = thinned(points, 25)
    assert len(thin) <= 25
    assert thin[-1][0] == 101
    assert thin[0] == (5, 3.0)
    assert thinned([], 5) == []
