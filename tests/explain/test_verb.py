from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from residency.cli import main
from residency.traffic.store import TrafficStore
from residency.types import Exchange
from tests.specialist import Specialist


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["explain", "--json", *words])


def test_it_writes_a_page_and_says_where(tmp_path: Path, specialist: Specialist) -> None:
    done = run(
        "我去银行 to the bank", "--model", str(specialist.base.path), "--workspace", str(tmp_path)
    )
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["page"] == str(tmp_path / "reports" / "explain.html")
    assert said["model"]["layers"] == 1
    (text,) = said["texts"]
    assert "".join(piece["text"] or "" for piece in text["tokens"]).endswith(" to the bank")
    assert sum(word["share"] for word in text["next"]) <= 1
    assert len(text["layers"]) == 2
    assert set(said["seconds"]) == {"import", "load", "read"}
    assert Path(said["page"]).read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("words", [(), ("a text", "--examples"), ("--examples", "--exchange", "x")])
def test_one_thing_at_a_time(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(*words, "--workspace", str(tmp_path))
    assert done.exit_code == 3
    assert "explain takes a text" in json.loads(done.stdout)["error"]


def test_an_exchange_is_looked_into(tmp_path: Path, specialist: Specialist) -> None:
    settings = (
        f'name = "desk"\n[model]\nbase = "{specialist.base.path}"\n[data]\nfile = "x.jsonl"\n'
    )
    (tmp_path / "residency.toml").write_text(settings)
    (tmp_path / ".residency").mkdir()
    store = TrafficStore(tmp_path / ".residency" / "traffic.db")
    store.add([recorded("one"), recorded("two", None)])
    store.close()
    done = run("--exchange", "one", "--workspace", str(tmp_path))
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["source"] == "exchange one"
    assert said["build"] == ""
    assert "".join(token["piece"]["text"] for token in said["answer"]).startswith("Yes, until six.")
    assert (tmp_path / "reports" / "exchange.html").is_file()
    for wrong, reason in (("two", "not a chat"), ("three", "no exchange is recorded as three")):
        failed = run("--exchange", wrong, "--workspace", str(tmp_path))
        assert failed.exit_code == 3
        assert reason in json.loads(failed.stdout)["error"]


def recorded(name: str, answer: str | None = "Yes, until six.") -> Exchange:
    said = {"choices": [{"message": {"role": "assistant", "content": answer}}]}
    return Exchange(
        id=name,
        time=1.0,
        api="chat",
        model="desk",
        request={"messages": [{"role": "user", "content": "Is the lab open?"}]},
        response=said if answer else None,
        status=200 if answer else 500,
        latency=0.1,
    )
