"""Masked exchanges have no personal data that has a form, and stay readable and valid."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from residency.traffic import pii
from residency.traffic.mask import masked, masked_and_found, pseudonym, texts
from tests.traffic.exchanges import exchange

SALT = b"s" * 32


def masked_body(body: Any, **fields: Any) -> Any:
    return masked(exchange(1, request={"body": body}, **fields), SALT).request["body"]


def test_the_same_value_has_the_same_placeholder_everywhere() -> None:
    one = exchange(
        1,
        "bob@example.com, ada@example.com",
        response={"choices": [{"message": {"content": "wrote to BOB@example.com"}}]},
        tags={"about": "ada@example.com"},
    )
    hidden = masked(one, SALT)
    assert hidden.request["messages"][0]["content"] == "[EMAIL_1], [EMAIL_2]"
    assert hidden.response == {"choices": [{"message": {"content": "wrote to [EMAIL_1]"}}]}
    assert hidden.tags == {"about": "[EMAIL_2]"}


def test_kinds_are_counted_apart() -> None:
    text = "a@example.com +44 20 7946 0958 b@example.com +44 20 7946 0001"
    assert masked_body(text) == "[EMAIL_1] [PHONE_1] [EMAIL_2] [PHONE_2]"


def test_found_counts_values_by_kind_as_they_came() -> None:
    said = "a@example.com, A@example.com, b@example.com, MRN 004417"
    one = exchange(1, said, tags={"phone": "+44 20 7946 0958"})
    found = {"EMAIL": 2, "MRN": 1, "PHONE": 1}
    assert masked_and_found(one, SALT) == (masked(one, SALT), found)
    assert not masked_and_found(masked(one, SALT), SALT)[1]


def test_an_answer_may_repeat_a_number_without_its_cue() -> None:
    said = ["my MRN is AB-004417", "ab-004417 is found, 104417 is not"]
    assert masked_body(said) == ["my MRN is [MRN_1]", "ab-[MRN_1] is found, 104417 is not"]


def test_the_subject_is_a_pseudonym_of_this_workspace() -> None:
    one = exchange(1, subject="bob", tags={"user": "bob", "note": "bob is late"})
    hidden = masked(one, SALT)
    assert hidden.subject == pseudonym("bob", SALT)
    assert hidden.tags == {"user": hidden.subject, "note": "bob is late"}
    assert hidden.subject != pseudonym("bob", b"t" * 32)
    assert pseudonym("", SALT) == masked(exchange(1), SALT).subject == ""


def test_arguments_of_tools_stay_json() -> None:
    arguments = {"phone": 13812345678, "mrn": "0044170", "to": ["a\n@ bob@example.com"], "n": 1234}
    hidden = masked_body(json.dumps(arguments))
    expected = {"phone": "[PHONE_1]", "mrn": "[MRN_1]", "to": ["a\n@ [EMAIL_1]"], "n": 1234}
    assert json.loads(hidden) == expected


def test_json_hides_nothing_by_escapes_or_by_a_name_given_twice() -> None:
    assert masked_body('{"a": "bob\\u0040example.com"}') == '{"a": "[EMAIL_1]"}'
    assert masked_body('{"a": "b@example.com", "a": 1}') == '{"a": "[EMAIL_1]", "a": 1}'
    assert masked_body({"b@example.com": 1}) == {"[EMAIL_1]": 1}


def test_json_without_personal_data_is_left_as_it_was_written() -> None:
    text = '{ "a":1.0,\n  "b": [2e3, "2026-11-24"] }'
    assert masked_body(text) == text


def test_json_that_goes_too_deep_is_text() -> None:
    text = "[" * 100_000 + '"bob@example.com"'
    assert masked_body(text) == "[" * 100_000 + '"[EMAIL_1]"'
    text = "[" * 900 + '"bob@example.com"' + "]" * 900
    assert "bob" not in masked_body(text)


def test_what_is_no_personal_data_is_untouched() -> None:
    body = {"max_tokens": 1234567, "temperature": 0.7, "stream": True, "stop": None, "seed": 5}
    assert masked_body(body) == body
    one = exchange(1)
    assert masked(one, SALT) == one


VALUES = st.sampled_from(
    ["bob@example.com", "+44 20 7946 0958", "4111 1111 1111 1111", "13812345678", "123-45-6789"]
)
WORDS = st.sampled_from(["hello", "电话", "is", ",", "{", '"', "in 2026", "[EMAIL_1]"])


NAMES = st.sampled_from(["created", "phone", "ssn", "mrn", "patient id", "fax_number", "电话", ""])


@given(NAMES, st.integers(0, 10**13))
def test_a_number_is_masked_as_its_digits_are(name: str, number: int) -> None:
    if number >= 1_000_000:
        whole, digits = masked_body({name: number})[name], masked_body({name: str(number)})[name]
        assert str(whole) == digits


@given(st.lists(VALUES | WORDS, max_size=8))
def test_nothing_that_is_found_is_left(words: list[str]) -> None:
    hidden = masked_body({"content": " ; ".join(words)})
    assert not any(pii.find(text) for text in texts(hidden))
