"""Whether an answer declines to answer, in English and in Chinese."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources

_LOOKED_AT = 200  # characters; what comes later is a reservation


def refuses(text: str) -> bool:
    """Whether the beginning of `text` declines to answer, by the words of refusals.toml."""
    return bool(_refusal().search(text.replace("\u2019", "'")[:_LOOKED_AT]))


def any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    """Any of `patterns`, whatever the case; those with Latin letters as whole words."""
    bounded = [
        rf"(?<![A-Za-z])(?:{one})(?![A-Za-z])" if re.search(r"[A-Za-z]", one) else one
        for one in patterns
    ]
    return re.compile("|".join(bounded), re.IGNORECASE)


@cache
def _refusal() -> re.Pattern[str]:
    data = resources.files("residency").joinpath("refusals.toml").read_text(encoding="utf-8")
    return any_of(tomllib.loads(data)["refusal"])
