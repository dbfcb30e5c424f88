"""`residency traffic report`, with the real encoder on a small log."""

import dataclasses
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from residency.cli import main
from residency.errors import InputError, StorageError
from residency.traffic import report
from residency.traffic.edits import FILE_NAME
from residency.traffic.store import TrafficStore
from residency.types import Exchange, to_json
from tests.traffic.exchanges import exchange

ASKED = {
    "refund": [
        *("I want my money back for the shoes", "please refund my last order"),
        *("how do I get a refund", "refund the broken lamp", "give me back what I paid"),
        *("can I have a refund for the jacket", "my refund has not come", "refund for two shirts"),
    ],
    "password": [
        *("I forgot my password", "reset the password of my account", "cannot log in any more"),
        *("my login does not work", "change my password", "the password is not accepted"),
        *("send me a new password", "I am locked out of my account"),
    ],
    "weather": [
        *("will it rain tomorrow", "what is the weather in Paris", "is it going to snow today"),
        *("how hot will it be on Sunday", "weather forecast for the weekend"),
        *("do I need an umbrella", "is it sunny in Rome now", "how cold is it outside"),
    ],
}


def calls(**fields: Any) -> list[Exchange]:
    found = []
    for place, (intent, texts) in enumerate(ASKED.items()):
        for text in texts * (3 - place):
            tags = {"intent": intent, "session": len(found)}
            found.append(exchange(len(found), text, cost=0.01 * (place + 1), tags=tags, **fields))
    return found


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "residency.toml").write_text('name = "desk"\n[data]\nfile = "x.jsonl"\n')
    return tmp_path


def stored(workspace: Path, exchanges: list[Exchange]) -> None:
    (workspace / ".residency").mkdir(exist_ok=True)
    store = TrafficStore(workspace / ".residency" / "traffic.db")
    store.add(exchanges)
    store.close()


def verb(workspace: Path, *words: str, name: str = "report", code: int = 0) -> dict[str, Any]:
    line = ["traffic", name, "--json", "--workspace", str(workspace), *words]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == code, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


class Page(HTMLParser):
    """Whether every element that is opened is closed, and what would be loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [f"{k}={v}" for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_categories_are_discovered_and_compared(workspace: Path) -> None:
    stored(workspace, calls())
    answer = verb(workspace)
    assert answer["by"] == ""
    found = answer["report"]
    assert sum(one["calls"] for one in found["categories"]) == found["total"]["calls"] == 48
    assert answer["calls"]["curve"][-1] == pytest.approx(1)
    assert [one["tag"] for one in answer["comparisons"]] == ["intent"]  # the session is no kind
    assert answer["comparisons"][0]["purity"] > 0.8
    assert answer["comparisons"][0]["nmi"] > 0.6
    assert answer["scripts"] == {"Latin": 48}
    known = {text for texts in ASKED.values() for text in texts}
    assert all(set(one["examples"]) <= known and one["examples"] for one in found["categories"])


@pytest.mark.parametrize("where", ["postgresql"], indirect=True)
def test_the_whole_way_on_postgresql(tmp_path: Path, where: str) -> None:
    settings = f'name = "desk"\n[data]\nfile = "x.jsonl"\n[traffic]\nstore = "{where}"\n'
    (tmp_path / "residency.toml").write_text(settings)
    log = tmp_path / "log.jsonl"
    mine = [dataclasses.replace(one, subject=str(one.tags["intent"])) for one in calls()]
    log.write_text("".join(f"{to_json(one)}\n" for one in mine))
    assert verb(tmp_path, str(log), name="import")["added"] == 48
    assert verb(tmp_path)["report"]["total"]["calls"] == 48
    assert verb(tmp_path, "password", name="erase")["erased"] == 16
    after = verb(tmp_path)
    assert after["report"]["total"]["calls"] == 32
    assert "password" not in Path(after["page"]).read_text()
    assert not (tmp_path / ".residency" / "traffic.db").exists()


def test_the_page_needs_nothing_and_escapes_what_was_asked(workspace: Path) -> None:
    nasty = [
        dataclasses.replace(one, request={"messages": [{"role": "user", "content": text}]})
        for one in calls()
        for text in [f"<script>alert(1)</script> {one.request['messages'][0]['content']}"]
    ]
    stored(workspace, nasty)
    text = Path(verb(workspace)["page"]).read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.loads == []
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not re.search(r"https?://|url\(", text)


def test_a_workload_of_most_calls_is_what_is_reported(workspace: Path) -> None:
    named = [
        dataclasses.replace(one, tags={"workload_id": one.tags["intent"]} if number else {})
        for number, one in enumerate(calls())
    ]
    stored(workspace, named)
    answer = verb(workspace)
    assert answer["by"] == "workload_id"
    counts = {one["name"]: one["calls"] for one in answer["report"]["categories"]}
    assert counts == {"refund": 23, "password": 16, "weather": 8, "(no workload_id)": 1}


def test_few_calls_can_be_reported_by_a_tag(workspace: Path) -> None:
    stored(workspace, calls()[:10])
    failed = verb(workspace, code=3)
    assert failed["error"].startswith("10 calls: too few")
    answer = verb(workspace, "--tag", "intent")
    assert [one["name"] for one in answer["report"]["categories"]] == ["refund"]
    assert answer["comparisons"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--since", "2999-01-01"], "there are no calls"),
        (["--since", "yesterday"], "is no day"),
        (["--tag", "team"], "no call has it"),
    ],
)
def test_what_cannot_be_reported_is_said(workspace: Path, words: list[str], said: str) -> None:
    stored(workspace, calls())
    failed = verb(workspace, *words, code=3)
    assert said in failed["error"]
    assert failed["hint"]


def test_texts_that_were_dropped(workspace: Path) -> None:
    stored(workspace, calls(request={}))
    assert "not kept" in verb(workspace, code=3)["error"]


def test_what_has_no_text_is_covered_by_no_category(workspace: Path) -> None:
    rest = [exchange(100 + n, request={}, api="chat") for n in range(12)]
    vectors = [exchange(200 + n, api="embeddings") for n in range(4)]
    stored(workspace, calls() + rest + vectors)
    answer = verb(workspace)
    counts = {one["name"]: one["calls"] for one in answer["report"]["categories"]}
    assert (counts["(no text kept)"], counts["(embeddings)"]) == (12, 4)
    assert answer["calls"]["curve"][-1] == pytest.approx(0.75)
    assert answer["calls"]["needed"]["95%"] is None


def test_names_of_the_user_are_kept(workspace: Path) -> None:
    stored(workspace, calls())
    before = [one["name"] for one in verb(workspace)["report"]["categories"]]
    path = workspace / FILE_NAME
    path.write_text(re.sub(r"(?m)^name = .*$", 'name = "one"', path.read_text()))
    found = verb(workspace)["report"]["categories"]
    assert len(before) > 1
    assert [(one["name"], one["calls"]) for one in found] == [("one", 48)]


def test_more_than_can_be_encoded_goes_by_words(workspace: Path) -> None:
    made = report.run(workspace, lambda: iter(calls()), most=18)
    assert made.by_words > 0
    assert sum(one.calls for one in made.report.categories) == 48
    assert made.comparisons[0].purity > 0.6


def test_applications_are_kept_apart(workspace: Path) -> None:
    def two() -> Iterator[Exchange]:
        for number, one in enumerate(calls() + calls()):
            told = "Answer the customer." if number < 48 else "Name the mood of the message."
            messages = [{"role": "system", "content": told}, *one.request["messages"]]
            tags = {"program": told[:4]}
            yield dataclasses.replace(one, request={"messages": messages}, tags=tags)

    made = report.run(workspace, two)
    assert made.comparisons[0].purity == 1
    assert len(made.report.categories) > 2


def test_personal_data_is_counted_by_calls(workspace: Path) -> None:
    found = [
        dataclasses.replace(one, tags={**one.tags, "personal": {"EMAIL": 3}}) if number < 5 else one
        for number, one in enumerate(calls())
    ]
    stored(workspace, found)
    answer = verb(workspace)
    assert answer["report"]["personal"] == {"EMAIL": 5}
    assert "Patterns do not find names" in " ".join(Path(answer["page"]).read_text().split())


def test_it_comes_back_as_it_was(workspace: Path) -> None:
    made = report.run(workspace, lambda: iter(calls()), tag="intent")
    report.write(workspace, made)
    assert report.load(workspace) == made.report


def test_no_report_and_a_damaged_one(workspace: Path) -> None:
    with pytest.raises(InputError, match="no traffic report"):
        report.load(workspace)
    (workspace / "reports").mkdir()
    (workspace / "reports" / "traffic.json").write_text('{"report": {}}')
    with pytest.raises(StorageError, match="damaged"):
        report.load(workspace)
