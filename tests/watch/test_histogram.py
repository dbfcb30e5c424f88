"""Our histogram against the library's own: Prometheus must read the same of both."""

from __future__ import annotations

import random
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from residency.watch.histogram import Histogram
from residency.watch.metrics import PER_TOKEN, SECONDS, TOKENS

LABELS = ("model", "error")


def read(registry: CollectorRegistry) -> dict[tuple[str, frozenset[Any]], float]:
    text = generate_latest(registry).decode()
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if not one.name.endswith("_created")  # the time of its first value, which nobody asks for
    }


@pytest.mark.parametrize("bounds", [SECONDS, PER_TOKEN, TOKENS])
def test_it_says_what_the_librarys_says(bounds: tuple[float, ...]) -> None:
    ours, theirs, drawn = CollectorRegistry(), CollectorRegistry(), random.Random(3)
    mine = Histogram("seconds", "Of answers.", LABELS, bounds, ours)
    library = prometheus_client.Histogram(
        "seconds", "Of answers.", LABELS, registry=theirs, buckets=bounds
    )
    values = [drawn.lognormvariate(0, 3) for _ in range(300)]
    for number, value in enumerate([0.0, *bounds, *values]):  # a bound belongs to its own bin
        labels = (f"m{number % 3}", "")
        mine.observe(value, *labels)
        library.labels(*labels).observe(value)
    assert read(ours) == pytest.approx(read(theirs))


def test_a_name_is_taken_once() -> None:
    registry = CollectorRegistry()
    Histogram("seconds", "Of answers.", LABELS, SECONDS, registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Histogram("seconds", "Of answers.", LABELS, SECONDS, registry)
