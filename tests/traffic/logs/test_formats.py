"""Each format says the same of the same call, and no record is an accident."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.traffic.logs.formats import Record, read, recognise
from residency.traffic.logs.values import Bad
from residency.types import Exchange, to_dict
from tests.traffic.logs import records

TIMED = ("litellm", "langfuse", "helicone")


def call(fields: dict[str, Any]) -> Exchange:
    name = recognise(fields)
    assert name
    found = read(name, Record(fields, json.dumps(fields).encode(), 7.0))
    assert found is not None
    return found


@pytest.mark.parametrize("name", records.ALL)
def test_recognised_by_its_keys(name: str) -> None:
    assert recognise(records.ALL[name]) == name
    assert recognise({"question": 1, "answer": 2}) == ""


@pytest.mark.parametrize("name", sorted(set(records.ALL) - {"residency"}))
def test_the_same_call_in_every_format(name: str) -> None:
    one = call(records.ALL[name])
    assert one.request["messages"][-1] == {"role": "user", "content": "Where is my card?"}
    assert one.response is not None
    message = one.response["choices"][0]["message"]
    assert (message["role"], message["content"]) == ("assistant", "On its way.")
    assert (one.api, one.model, one.status, one.error) == ("chat", one.model, 200, "")
    assert one.model.startswith("gpt-4o-mini")
    assert (one.prompt_tokens, one.completion_tokens) == (40, 5)
    assert 1716990379 <= one.time <= 1716990380


@pytest.mark.parametrize("name", TIMED)
def test_what_a_call_took(name: str) -> None:
    one = call(records.ALL[name])
    assert (one.latency, one.ttft, one.cost, one.subject) == (1.5, 0.25, 0.0125, "ada")
    assert one.tags["feature"] == "cards"
    assert "resource" not in one.tags


def test_own_records_come_back_as_they_were() -> None:
    assert to_dict(call(records.OWN)) == records.OWN


@pytest.mark.parametrize(
    "took", [{"latency": 1.5}, {"duration_ms": 1500}, {"end_time": 1716990380.5}]
)
def test_what_a_pair_took(took: dict[str, Any]) -> None:
    assert call({**records.NVIDIA, **took}).latency == 1.5


def test_tags_and_key() -> None:
    assert call(records.NVIDIA).tags == {"workload_id": "card_arrival", "client_id": "desk"}
    assert call(records.LITELLM).key == "desk"
    assert call(records.LITELLM).tags == {"feature": "cards", "tags": ["prod"]}
    names = {"name": "answer-card", "trace_name": "desk", "tags": ["prod"]}
    assert call(records.LANGFUSE).tags == {"feature": "cards", **names}


def test_a_record_is_known_again_by_its_own_id_or_its_content() -> None:
    assert call(records.HELICONE).id == "hel-1"
    assert call(records.NVIDIA).id == call(dict(records.NVIDIA)).id
    assert call(records.NVIDIA).id != call({**records.NVIDIA, "client_id": "web"}).id


def test_only_generations_are_calls() -> None:
    span = {**records.LANGFUSE, "type": "SPAN"}
    assert read("langfuse", Record(span, b"", 0.0)) is None


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        (
            {
                **records.LITELLM,
                "status": "failure",
                "response": None,
                "error_information": {"error_code": "429", "error_class": "RateLimitError"},
            },
            429,
            "RateLimitError",
        ),
        ({**records.LANGFUSE, "level": "ERROR", "output": None}, 500, "error"),
        (
            {
                **records.HELICONE,
                "response_status": 400,
                "response_body": {"error": {"code": "x1"}},
            },
            400,
            "x1",
        ),
        (
            {**records.NVIDIA, "response": {"error": {"message": "no", "type": "server_error"}}},
            500,
            "server_error",
        ),
        ({**records.NVIDIA, "response": {"error": "ada asked for too much"}}, 500, "error"),
        (
            {**records.BATCH, "response": None, "error": {"code": "batch_expired"}},
            500,
            "batch_expired",
        ),
    ],
)
def test_a_failure_leaves_its_code_and_never_its_words(
    fields: dict[str, Any], status: int, error: str
) -> None:
    one = call(fields)
    assert (one.status, one.error, one.response) == (status, error, None)


def test_a_time_that_is_none_is_bad_and_a_missing_one_is_the_files() -> None:
    with pytest.raises(Bad, match="timestamp is no time"):
        call({**records.NVIDIA, "timestamp": "yesterday"})
    bare = {"request": records.ASKED, "response": "On its way."}
    assert call(bare).time == 7.0


def test_the_answer_may_be_the_last_message() -> None:
    said = [*records.ASKED["messages"], {"role": "assistant", "content": "On its way."}]
    one = call({"messages": said})
    assert one.request["messages"] == records.ASKED["messages"]
    assert one.response == {
        "choices": [{"index": 0, "message": said[-1]}],
        "usage": None,
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("{"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = sorted(
    {key for one in records.ALL.values() for key in one}
    | set(records.ASKED)
    | {
        "role",
        "content",
        "type",
        "text",
        "delta",
        "index",
        "input",
        "output",
        "data",
        "body",
        "error",
    }
)
shaped = st.recursive(
    json_values,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6)
    ),
    max_leaves=20,
)


@given(name=st.sampled_from(sorted(records.ALL)), data=st.data())
def test_any_json_in_any_field_gives_an_exchange_or_a_reason(
    name: str, data: st.DataObject
) -> None:
    keys = sorted(records.ALL[name])
    changed = data.draw(st.dictionaries(st.sampled_from(keys), shaped, max_size=4))
    try:
        found = read(name, Record({**records.ALL[name], **changed}, b"raw", 7.0))
    except Bad as error:
        assert str(error)
        return
    if found is not None:
        json.dumps(to_dict(found))
        assert isinstance(found.time, float)
        assert 100 <= found.status < 600
        assert min(found.latency, found.cost, found.prompt_tokens, found.completion_tokens) >= 0
        names = (found.id, found.model, found.build, found.key, found.subject, found.error)
        assert all(isinstance(one, str) for one in names)


@given(
    name=st.sampled_from(sorted(records.ALL)),
    fields=st.dictionaries(st.sampled_from(NAMES), shaped),
)
def test_any_object_gives_an_exchange_or_a_reason(name: str, fields: dict[str, Any]) -> None:
    try:
        read(name, Record(fields, b"raw", 7.0))
    except Bad as error:
        assert str(error)
