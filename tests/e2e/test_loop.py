"""The loop, once around: what a release got wrong in service, the next one gets right.

The shipped clinic desk, with a kind of message held back: of `KIND` the first release has seen
nothing. Clients ask it, and correct it; the corrections become rows of the next data set.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from residency.conversations import FROM_TRAFFIC, read_conversations
from residency.gate import intervals
from residency.gate.statistics import mcnemar
from residency.near_duplicates import canonical
from residency.store import Store
from residency.verbs.workspace import RECIPES
from tests.e2e.conftest import residency

KIND = "insurance"
TAUGHT, SERVED, OTHERS = 300, 40, 240
"""Rows of other kinds that the first release learns; rows of the kind that clients ask and correct;
and rows of other kinds that neither release ever learns."""
TRIES, LATE = 3, "the engine did not answer in time"
SETTINGS = """
name = "clinic-desk"
[data]
file = "desk.jsonl"
system = "Clinic desk."
validation = 0.08
test = 0.12
[export]
levels = ["Q8_0"]
[gate]
exact = 0.2
different = 1.0
[serve]
port = 0
"""
Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Parts:
    """`kind` and `others` are examined after each round, and never learnt."""

    taught: Rows
    served: Rows
    kind: Rows
    others: Rows


def parts() -> Parts:
    rows = [json.loads(line) for line in (RECIPES / "clinic-desk.jsonl").read_text().splitlines()]
    random.Random(17).shuffle(rows)
    held = [row for row in rows if json.loads(row["completion"])["intent"] == KIND]
    other = [row for row in rows if row not in held and row["prompt"].isascii()]
    return Parts(
        taught=other[:TAUGHT],
        served=held[:SERVED],
        kind=held[SERVED:],
        others=other[TAUGHT : TAUGHT + OTHERS],
    )


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The endpoint of the current release, as its user starts it."""
    command = [sys.executable, "-m", "residency", "serve", "--port", "0"]
    with subprocess.Popen(
        [*command, "--workspace", str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


def ask(url: str, rows: Sequence[dict[str, str]]) -> list[Any]:
    """Each question once, in order: (id, whether the answer is right). On a machine that others
    use too an answer may come too late, and is asked for again."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=5) as client:
        said = [
            client.chat.completions.create(
                model="clinic-desk", messages=[{"role": "user", "content": row["prompt"]}]
            )
            for row in rows
        ]
    return [
        (one.id, canonical(one.choices[0].message.content or "") == canonical(row["completion"]))
        for one, row in zip(said, rows, strict=True)
    ]


def rate(url: str, body: dict[str, str]) -> None:
    request = urllib.request.Request(f"{url}/v1/feedback", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=600) as answer:
        assert answer.status == 200


def train(folder: Path) -> None:
    """The chain, up to a release, however long it takes beside others' work. Where an engine was
    so late that it was given up, it goes on from there."""
    command = [sys.executable, "-m", "residency", "run", "--workspace", str(folder)]
    for _ in range(TRIES):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if LATE not in done.stderr:
            break
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"


def right(answers: list[Any]) -> list[bool]:
    return [is_right for _, is_right in answers]


@pytest.mark.slow
def test_what_was_corrected_in_service_the_next_release_gets_right(tmp_path: Path) -> None:
    rows, folder = parts(), tmp_path
    (folder / "residency.toml").write_text(SETTINGS)
    text = "".join(json.dumps(row) + "\n" for row in rows.taught)
    (folder / "desk.jsonl").write_text(text)

    train(folder)
    tested = _tested(folder)
    with served(folder) as url:
        first_kind, first_others = right(ask(url, rows.kind)), right(ask(url, rows.others))
        for (id_, fine), row in zip(ask(url, rows.served), rows.served, strict=True):
            good = {"rating": "up"} if fine else {"correction": row["completion"]}
            rate(url, {"id": id_, **good})
        # A client that asks what the test asks, nearly: it must not be taught.
        near = [{"prompt": tested[0].question + " Please.", "completion": tested[0].answer}]
        ((id_, _),) = ask(url, near)
        rate(url, {"id": id_, "correction": tested[0].answer})

    built = json.loads(
        residency("data", "build", "--from", "traffic", "--workspace", folder, "--json").stdout
    )
    assert built["traffic"]["near the test split"] >= 1
    assert built["traffic"]["added"] >= SERVED - 3
    lines = (folder / FROM_TRAFFIC).read_text()
    assert not any(
        json.dumps(r["prompt"])[1:-1] in lines for r in (*rows.kind, *rows.others, *near)
    )
    train(folder)
    again = _tested(folder)
    assert again[: len(tested)] == tested  # what was a test is one still

    with served(folder) as url:
        second_kind, second_others = right(ask(url, rows.kind)), right(ask(url, rows.others))
    gain, kept = (
        intervals.gain(list(map(float, new)), list(map(float, old)))
        for new, old in ((second_kind, first_kind), (second_others, first_others))
    )
    print(
        f"\n{KIND}: {sum(first_kind)} of {len(first_kind)} right, then {sum(second_kind)}: {gain}"
        f"\nothers: {sum(first_others)} of {len(first_others)}, then {sum(second_others)}: {kept}, "
        f"p {mcnemar(second_others, first_others):.2f}\n{built['traffic']}"
    )
    assert gain.low > 0
    assert kept.high >= 0 and kept.value > -0.05


def _tested(folder: Path) -> list[Any]:
    """The test split of the last data set."""
    store = Store(folder)
    made = [one for one in store.records() if one.stage == "data"]
    return read_conversations(store.output(made[-1], "dataset").path / "test.jsonl")
