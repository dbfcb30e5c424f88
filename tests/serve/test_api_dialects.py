"""What holds for every API: no body does more than to be refused, and every answer is one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.serve.answer import Answer, identity
from residency.serve.apis import DIALECTS
from residency.serve.apis.dialect import Dialect
from residency.serve.asked import Asked
from residency.serve.errors import RequestError
from tests.serve.speaking import events, said

FIELDS = ["messages", "prompt", "input", "model", "role", "content", "type", "text", "system"]
FIELDS += ["tools", "tool_choice", "function", "name", "parameters", "input_schema", "arguments"]
FIELDS += ["tool_calls", "tool_call_id", "id", "call_id", "tool_use_id", "output", "stop", "stream"]
FIELDS += ["response_format", "json_schema", "schema", "logprobs", "max_tokens", "timeout"]
SCRAPS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.floats()
    | st.sampled_from(
        ["", "m", "user", "tool", "function", "json_schema", "tool_use", "text", "{}"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5)
    ),
    max_leaves=15,
)
TEXT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hi"}],
    "prompt": "hi",
    "input": "hi",
}
NEEDED = {
    "chat": ["messages"],
    "completions": ["prompt"],
    "responses": ["input"],
    "messages": ["messages", "max_tokens"],
}

every_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.name)


def body(dialect: Dialect, **more: Any) -> bytes:
    needed = {name: TEXT.get(name, 9) for name in NEEDED[dialect.name]}
    return json.dumps({"model": "m", **needed, **more}).encode()


def refused(dialect: Dialect, data: bytes) -> bool:
    try:
        assert isinstance(dialect.parse(data), Asked)
    except RequestError as error:
        assert error.status == 400
        assert len(error.message) < 3000
        return True
    return False


@every_dialect
@given(given=st.dictionaries(st.sampled_from(FIELDS), SCRAPS, max_size=4))
def test_no_body_raises_anything_but_a_refusal(dialect: Dialect, given: dict[str, Any]) -> None:
    refused(dialect, body(dialect, **given))


@every_dialect
@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"model": "\\ud800"}']
)
def test_what_is_no_object_is_refused(dialect: Dialect, data: bytes) -> None:
    assert refused(dialect, data)


@every_dialect
def test_a_plain_request_is_taken_with_our_own_fields(dialect: Dialect) -> None:
    wishes = dialect.parse(
        body(dialect, timeout=3, ttft_timeout=1, deterministic=True, context="error")
    ).wishes
    assert (wishes.timeout, wishes.ttft_timeout) == (3, 1)
    assert (wishes.deterministic, wishes.context) == (True, "error")


@every_dialect
@given(words=st.lists(st.text(max_size=8), max_size=6), facts=st.booleans())
def test_a_stream_says_what_the_model_said(dialect: Dialect, words: list[str], facts: bool) -> None:
    asked = dialect.parse(body(dialect, stream=True))
    answer = Answer()
    writer = dialect.writer(asked, identity(dialect.prefix + "1", model="m", build="b"), answer)
    written = writer.first()
    for chunk in said(*words):
        answer.add(chunk)
        written += writer.chunk(chunk)
    written += writer.last({"finish": "x"} if facts else {})
    assert "".join(map(_text, events(written.decode()))) == "".join(words)
    assert ("residency" in str(written)) == facts


def _text(event: tuple[str, Any]) -> str:
    """The text that an event adds, whatever its API."""
    name, data = event
    if data is None:
        return ""
    if "choices" in data:
        [choice] = data["choices"]
        return choice["text"] if "text" in choice else choice["delta"].get("content") or ""
    if name == "content_block_delta":
        return str(data["delta"]["text"])
    return str(data["delta"]) if name == "response.output_text.delta" else ""
