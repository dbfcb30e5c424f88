"""The two files of a batch become whole calls, in whatever order they are given."""

import itertools
import json
from typing import Any

import pytest

from residency.errors import DataError
from residency.traffic.logs import halves
from residency.traffic.logs.formats import Record, batch
from residency.traffic.logs.halves import Halves
from residency.traffic.logs.lines import Found, Rejected

FAILURE = {"code": "batch_expired", "message": "late"}


def request(name: str, said: str = "hi") -> dict[str, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": f"{said} {name}"}]}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}


def result(name: str, error: Any = None) -> dict[str, Any]:
    answer = {"choices": [{"message": {"role": "assistant", "content": f"re {name}"}}]}
    response = None if error else {"status_code": 200, "request_id": "r", "body": answer}
    return {"id": f"batch_req_{name}", "custom_id": name, "response": response, "error": error}


def found(*values: Any) -> list[Found]:
    return [(number, None, json.dumps(value).encode()) for number, value in enumerate(values, 1)]


def calls(joined: list[Found]) -> set[tuple[str, str, str]]:
    """Id, what was asked and what was answered."""
    made = [batch(Record(one[1], one[2], 0.0)) for one in joined if not isinstance(one, Rejected)]
    return {
        (
            one.id,
            one.request["messages"][0]["content"],
            one.response["choices"][0]["message"]["content"] if one.response else one.error,
        )
        for one in made
    }


@pytest.mark.parametrize("turned", [False, True])
def test_whole_calls_whichever_file_comes_first(turned: bool) -> None:
    files = [
        found(*map(request, "abcd")),
        found(*map(result, "ca")),
        found(result("b", FAILURE)),
    ]
    one = Halves()
    joined = [list(one.joined(file)) for file in (reversed(files) if turned else files)]
    assert calls(list(itertools.chain(*joined))) == {
        ("batch_req_a", "hi a", "re a"),
        ("batch_req_b", "hi b", "batch_expired"),
        ("batch_req_c", "hi c", "re c"),
    }
    assert one.left == (1, 0)


def test_what_has_no_other_half_is_counted() -> None:
    one = Halves()
    assert not list(one.joined(found(request("a"), result("b"), result("c"), request("a"))))
    assert one.left == (1, 2)


@pytest.mark.parametrize(
    "value",
    [
        {**request("a"), **result("a")},
        {"request": "about custom_id", "response": "x"},
        {"custom_id": "a"},
        {"a": '"custom_id"'},
        ["custom_id"],
    ],
)
def test_whatever_is_no_half_passes(value: Any) -> None:
    one = Halves()
    assert list(one.joined(found(value))) == found(value)
    assert one.left == (0, 0)


def test_what_belongs_to_nobody_knows_what_is_bad() -> None:
    one = Halves()
    lines = found(request("a"), request("a", "another"), result("a"), request("b"), result("b"))
    joined = list(one.joined(lines))
    assert [line.line for line in joined if isinstance(line, Rejected)] == [2, 3]
    assert calls(joined) == {("batch_req_b", "hi b", "re b")}


def test_batches_one_after_the_other_may_have_the_same_names() -> None:
    one = Halves()
    lines = found(request("a"), result("a"), request("a", "another"), {**result("a"), "id": "2"})
    assert calls(list(one.joined(lines))) == {
        ("batch_req_a", "hi a", "re a"),
        ("2", "another a", "re a"),
    }


def test_too_much_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "ROOM", 2000)
    one = Halves()
    pairs = itertools.chain(*((request(str(n)), result(str(n))) for n in range(100)))
    assert len(list(one.joined(found(*pairs)))) == 100
    with pytest.raises(DataError, match="wait for their other half"):
        list(one.joined(found(*(request(str(n)) for n in range(100)))))
