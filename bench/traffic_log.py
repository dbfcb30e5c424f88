"""A request log that nobody had to give away: real arrivals, real questions, made-up answers.

    python bench/traffic_log.py TRACE.csv TEXTS.csv OUT.jsonl [--count N] [--intents a,b] [--no-tag]

TRACE has `timestamp, context_tokens, generated_tokens` a request (the form of Azure's traces of
2023), TEXTS a question a row with its intent (the forms of CLINC150 and Bitext). A line of OUT is
an OpenAI request and response, with latency, status and cost. How often an intent is asked falls
with its rank (Zipf); some calls ask what an earlier one did, with other words around it. The true
intent is the call's metadata `intent`, unless it is left out.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

MODELS = {"gpt-4o": (2.5, 10.0), "gpt-4o-mini": (0.15, 0.6)}
"""Money for a million tokens in and out."""
BANKING = (
    *("balance", "bill_due", "pay_bill", "transfer", "transactions", "freeze_account"),
    *("report_fraud", "card_declined", "credit_limit", "credit_score", "interest_rate", "apr"),
    *("new_card", "replacement_card_duration", "damaged_card", "routing", "account_blocked"),
    *("pin_change", "order_checks", "spending_history"),
)
"""Twenty of CLINC150's intents, of a bank."""
REPEATED, FAILED, SEED = 0.15, 0.02, 17
BEFORE = ("Hi, ", "hello ", "Please: ", "hey there, ")
AFTER = (" thanks", " please", "??", " Thank you!")


class Arrival(NamedTuple):
    """Seconds since 1970, and lengths in tokens."""

    time: float
    prompt: int
    answer: int


def arrivals(path: Path, count: int) -> Iterator[Arrival]:
    """The first `count` of a trace; where it is shorter it begins again after its end."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            Arrival(
                datetime.fromisoformat(row["timestamp"][:26]).replace(tzinfo=UTC).timestamp(),
                int(row["context_tokens"]),
                int(row["generated_tokens"]),
            )
            for row in csv.DictReader(file)
        ]
    span = rows[-1].time - rows[0].time + 1
    for number in range(count):
        row = rows[number % len(rows)]
        yield row._replace(time=row.time + span * (number // len(rows)))


def texts(path: Path, intents: Sequence[str] = ()) -> dict[str, list[str]]:
    """The questions of each intent, of those named or of all."""
    found: dict[str, list[str]] = {name: [] for name in intents}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if not intents or row["intent"] in found:
                text = row.get("text") or row["utterance"]
                found.setdefault(row["intent"], []).append(text)
    return found


def questions(
    known: dict[str, list[str]], count: int, rng: random.Random, *, even: bool = False
) -> Iterator[tuple[str, str]]:
    """Intents with what is asked; `even` asks all of them as often, else by Zipf's law."""
    names = sorted(known)
    rng.shuffle(names)
    weights = [1.0 if even else 1 / rank for rank in range(1, len(names) + 1)]
    asked: dict[str, list[str]] = {}
    for name in rng.choices(names, weights, k=count):
        before = asked.setdefault(name, [])
        if before and rng.random() < REPEATED:
            text = rng.choice(before)
            text = rng.choice(BEFORE) + text if rng.random() < 0.5 else text + rng.choice(AFTER)
        else:
            text = rng.choice(known[name])
            before.append(text)
        yield name, text


def call(number: int, at: Arrival, intent: str, text: str, rng: random.Random) -> dict[str, Any]:
    """One line. Every third intent has a label for an answer, the others a text."""
    model = rng.choices(list(MODELS), (0.7, 0.3))[0]
    failed = rng.random() < FAILED
    price = MODELS[model]
    request = {"model": model, "messages": [{"role": "user", "content": text}]}
    words = intent.replace("_", " ")
    label = sum(map(ord, intent)) % 3 == 0
    said = words if label else f"About {words}: case {rng.randrange(9000)} is open. {text[:60]}"
    answer = {
        "id": f"chatcmpl-{number:09}",
        "object": "chat.completion",
        "created": int(at.time),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": said},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": at.prompt, "completion_tokens": at.answer},
    }
    return {
        "id": f"call-{number:09}",
        "timestamp": at.time,
        "request": request,
        "response": {"error": {"code": "rate_limit_exceeded"}} if failed else answer,
        "status": 429 if failed else 200,
        "latency_ms": round(1000 * (0.3 + 0.02 * at.answer * rng.lognormvariate(0, 0.4))),
        "cost": 0.0 if failed else (at.prompt * price[0] + at.answer * price[1]) / 1e6,
        "metadata": {"intent": intent},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("trace", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--intents", default="", help="names with commas, or banking")
    parser.add_argument("--no-tag", action="store_true")
    given = parser.parse_args()
    wanted = BANKING if given.intents == "banking" else given.intents.split(",")
    rng = random.Random(SEED)
    asked = questions(texts(given.texts, [name for name in wanted if name]), given.count, rng)
    with given.out.open("w", encoding="utf-8") as file:
        for number, (at, (intent, text)) in enumerate(
            zip(arrivals(given.trace, given.count), asked, strict=True)
        ):
            line = call(number, at, intent, text, rng)
            if given.no_tag:
                del line["metadata"]
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
