"""What a language model makes of the answers that changed; see `judge`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from residency.builds import BASE, F16
from residency.config import Endpoint
from residency.gate.baseline import API
from residency.gate.judge import Case, Judgement, agreement, judge
from residency.gate.tally import Marked
from residency.types import Conversation, to_dict


def judge_all(
    endpoint: Endpoint,
    marked: Mapping[str, Marked],
    cases: Sequence[Conversation],
    kept: Path,
) -> dict[str, Any]:
    """Each build beside f16, and f16 beside the API, where their answers are not the same.

    `rows` count, by build, how often it was the better; `agreement` is the judge's with the fitted
    measure. See `judge.judge` for what is raised.
    """
    rows, judgements, relations = {}, [], []
    for name, one in marked.items():
        against = API if name == F16 else F16
        if name in (BASE, API) or against not in marked:
            continue
        found = one.to_api if name == F16 else one.relations
        changed = [n for n, relation in found.items() if relation != "exact"]
        asked = [_case(cases[n], one, marked[against], n) for n in changed]
        got = judge(endpoint.served, asked, kept, endpoint.timeout)
        rows[name] = {"against": against, **_counts(got)}
        judgements += got
        relations += [found[n] for n in changed]
    return {"rows": rows, "agreement": to_dict(agreement(judgements, relations))}


def _case(case: Conversation, one: Marked, other: Marked, number: int) -> Case:
    first, second = one.answers[number].text, other.answers[number].text
    return Case(source=case.source, prompt=case.prompt, first=first, second=second)


def _counts(judgements: Sequence[Judgement]) -> dict[str, Any]:
    choices = Counter(one.choice for one in judgements)
    return {
        "better": choices["first"],
        "worse": choices["second"],
        "tie": choices["tie"],
        "flipped": sum(one.flipped for one in judgements),
        "failed": choices[None],
        "errors": [one.error for one in judgements if one.error][:3],
    }
