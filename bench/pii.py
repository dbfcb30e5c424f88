"""How much personal data is found in sentences that no pattern was tuned on, and how much is not.

    python bench/pii.py [FILE] [--misses] [--speed]

For each language and kind: values of which a part was found as that kind, and values that are
covered to the last letter; in plain text, spans where no personal data is. Shares have 95%
intervals (Wilson). `--misses` shows what went wrong; a sentence that was looked at so must be
replaced by a new one. `--speed` is the time to mask one exchange.
"""

from __future__ import annotations

import argparse
import re
import timeit
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from residency.gate.intervals import wilson
from residency.traffic import pii
from residency.traffic.mask import masked
from residency.types import Exchange

HELD_OUT = Path(__file__).parents[1] / "tests" / "traffic" / "pii_held_out.toml"
_MARK = re.compile(r"\{([A-Z_]+):([^{}]+)\}")


class Value(NamedTuple):
    """`text[start:end]` of a sentence was marked as personal data."""

    kind: str
    start: int
    end: int


@dataclass
class Tally:
    """`touched` and `covered` say it of each value, `false` lists spans where there was none."""

    touched: list[bool] = field(default_factory=list)
    covered: list[bool] = field(default_factory=list)
    false: list[str] = field(default_factory=list)


def read(sentence: str) -> tuple[str, list[Value]]:
    """A sentence without its marks, and where they were."""
    text, values, done = "", [], 0
    for mark in _MARK.finditer(sentence):
        text += sentence[done : mark.start()]
        values.append(Value(mark[1], len(text), len(text) + len(mark[2])))
        text += mark[2]
        done = mark.end()
    return text + sentence[done:], values


def tallied(sentences: list[str], *, misses: bool) -> dict[str, Tally]:
    tallies: dict[str, Tally] = defaultdict(Tally)
    for sentence in sentences:
        text, values = read(sentence)
        spans = list(pii.find(text))
        for value in values:
            alike = [s for s in spans if s.kind == value.kind and overlap(s, value)]
            hidden = {i for s in spans for i in range(s.start, s.end)}
            bare = [i for i in range(value.start, value.end) if text[i].isalnum()]
            tallies[value.kind].touched.append(bool(alike))
            tallies[value.kind].covered.append(hidden.issuperset(bare))
            if misses and not hidden.issuperset(bare) and value.kind != "NAME":
                print("missed:", value.kind, sentence)
        for span in spans:
            if not any(overlap(span, value) for value in values):
                tallies[span.kind].false.append(text)
                if misses:
                    print("false:", span.kind, text[span.start : span.end], "in", sentence)
    return tallies


def overlap(span: pii.Span, value: Value) -> bool:
    return span.start < value.end and value.start < span.end


def lines(language: str, sentences: list[str], tallies: dict[str, Tally]) -> Iterator[str]:
    plain = [s for s in sentences if not _MARK.search(s)]
    wrong = {text for tally in tallies.values() for text in tally.false}
    patterned = [tally for kind, tally in tallies.items() if kind != "NAME"]
    every = Tally(
        [hit for tally in patterned for hit in tally.touched],
        [hit for tally in patterned for hit in tally.covered],
        [text for tally in patterned for text in tally.false],
    )
    rows = {**dict(sorted(tallies.items())), "all but NAME": every}
    for kind, tally in rows.items():
        yield (
            f"{language}  {kind:<12}  {len(tally.touched):>3}  {share(tally.touched)}  "
            f"{share(tally.covered)}  {len(tally.false):>3}"
        )
    alarms = share([sentence in wrong for sentence in plain])
    yield f"{language}  {len(plain)} sentences without personal data, with a false find: {alarms}"


def share(hits: list[bool]) -> str:
    rate = wilson(sum(hits) / len(hits) if hits else 0.0, len(hits))
    return f"{rate.value:.2f} ({rate.low:.2f}-{rate.high:.2f})"


def speed(count: int = 2_000) -> str:
    """Microseconds to mask a record of some 500 bytes with a few numbers, none of them personal."""
    said = "The order 4471 of 12 March came late, and two of 3 boxes were open; I am owed 19.99. "
    said += "Would you please tell me when the others will be here and who pays for it? " * 3
    asked = {"model": "large", "messages": [{"role": "user", "content": said}]}
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": said[:160]}}]}
    one = Exchange(
        id="1",
        time=0.0,
        api="chat",
        model="large",
        request=asked,
        response=answer,
        status=200,
        latency=1.0,
    )
    best = min(timeit.repeat(lambda: masked(one, b"salt"), number=count, repeat=10))
    return f"masked: {best / count * 1e6:.1f} us an exchange, the best of 10 rounds"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", nargs="?", type=Path, default=HELD_OUT)
    parser.add_argument("--misses", action="store_true")
    parser.add_argument("--speed", action="store_true")
    wanted = parser.parse_args()
    if wanted.speed:
        print(speed())
        return
    print("    kind            n  found as it       nothing left      false")
    for language, sentences in tomllib.loads(wanted.file.read_text()).items():
        for line in lines(language, sentences, tallied(sentences, misses=wanted.misses)):
            print(line)


if __name__ == "__main__":
    main()
