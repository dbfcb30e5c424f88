"""What an API answered: recorded, from traffic, and asked of a server that fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from residency.config import Endpoint
from residency.errors import DataError, EngineRejected
from residency.gate.baseline import ask_api, match, of_exchanges, read_recorded
from residency.types import Exchange
from tests.gate.results import conversation

CASES = [conversation(f"Question {n}?", f"answer {n}", line=n) for n in range(6)]


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def said(question: str, answer: str) -> dict[str, object]:
    messages = [("system", "You are a long prompt."), ("user", question), ("assistant", answer)]
    return {"messages": [{"role": role, "content": text} for role, text in messages]}


def test_recorded_answers_are_matched_by_prompt(tmp_path: Path) -> None:
    rows = [said("Question  3? ", "old"), said("Question 9?", "x"), said("Question 3?", "new")]
    found = match(read_recorded(write(tmp_path / "a.jsonl", *rows)), CASES)
    assert {n: answer.text for n, answer in found.items()} == {3: "new"}


@pytest.mark.parametrize("row", [{"messages": []}, {"prompt": "x"}, 3, said("q", "a")["messages"]])
def test_what_is_no_recorded_answer_is_named(tmp_path: Path, row: object) -> None:
    path = write(tmp_path / "a.jsonl", said("q", "a"), row)
    with pytest.raises(DataError, match=r"a\.jsonl:2: not a conversation"):
        read_recorded(path)


def exchange(number: int, **values: object) -> Exchange:
    whole = {"messages": said(f"Question {number}?", "")["messages"][:2]}  # type: ignore[index]
    reply = {"choices": [{"message": {"role": "assistant", "content": f"api {number}"}}]}
    given = {"request": whole, "response": reply, "status": 200, **values}
    return Exchange(id=f"e{number}", time=0.0, api="chat", model="m", latency=1.0, **given)  # type: ignore[arg-type]


def test_exchanges_that_were_answered_count() -> None:
    silent = {"choices": [{"message": {"role": "assistant", "content": None}}]}
    given = [
        exchange(1),
        exchange(2, response=None, status=500),
        exchange(3, response=silent),
        exchange(4, request={"input": "text"}),
    ]
    found = match(of_exchanges(given), CASES)
    assert {n: answer.text for n, answer in found.items()} == {1: "api 1"}


@contextmanager
def served(answer: Callable[[int], tuple[int, str]]) -> Iterator[tuple[Endpoint, list[int]]]:
    """An API whose `answer` to its n-th request is a status and a text; None of it is ours."""
    asked: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            asked.append(len(asked))
            status, text = answer(asked[-1])
            if status == 0:
                hang.wait(5)
                return
            self.send_response(status)
            self.end_headers()
            delta = {"choices": [{"delta": {"content": text}, "finish_reason": "stop"}]}
            body = f"data: {json.dumps(delta)}\n\ndata: [DONE]\n\n" if status == 200 else "{}"
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    hang = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        yield Endpoint(url=url, model="m", timeout=0.5), asked
    finally:
        hang.set()
        server.shutdown()
        server.server_close()


def test_a_failure_is_its_cases_alone_and_is_asked_again(tmp_path: Path) -> None:
    cases = dict(enumerate(CASES))
    with served(lambda n: (500 if n == 1 else 0 if n == 3 else 200, f"text {n}")) as (api, asked):
        first = ask_api(api, cases, 16, tmp_path)
        assert set(first.failures) == {1, 3}
        assert "500" in first.failures[1]
        assert [first.answers[n].text for n in (0, 2, 4, 5)] == [f"text {n}" for n in (0, 2, 4, 5)]
        again = ask_api(api, cases, 16, tmp_path)
    assert len(asked) == 6 + 2
    assert not again.failures and list(again.answers) == [0, 1, 2, 3, 4, 5]
    assert again.answers[0] == first.answers[0]


def test_an_api_that_is_down_is_given_up(tmp_path: Path) -> None:
    with served(lambda _: (500, "")) as (api, asked):
        found = ask_api(api, dict(enumerate(CASES)), 16, tmp_path)
    assert len(asked) == 3
    assert not found.answers and "not asked" in found.failures[5]


def test_a_key_that_is_refused_ends_it(tmp_path: Path) -> None:
    with (
        served(lambda _: (401, "")) as (api, _),
        pytest.raises(EngineRejected, match="refuses our"),
    ):
        ask_api(api, dict(enumerate(CASES)), 16, tmp_path)
