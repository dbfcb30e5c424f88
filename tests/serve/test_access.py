"""A key is found where clients put it; a model outside its scope does not exist."""

from pathlib import Path

import pytest
from starlette.datastructures import Headers

from residency.serve.access import allow_model, authenticate, visible
from residency.serve.asked import ANYONE, Caller
from residency.serve.errors import RequestError
from residency.serve.keys import KeyRing

BOB = Caller(name="bob", models=frozenset({"a"}))
SERVED = ["a", "b"]


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "keys.json")


def test_without_a_ring_anyone_may_ask() -> None:
    assert authenticate({}, None, 0) == ANYONE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", "Bearer {}"),
        ("authorization", "bearer {}"),
        ("Authorization", "Bearer   {} "),
        ("X-Api-Key", "{}"),
    ],
)
def test_the_key_is_found(ring: KeyRing, name: str, value: str) -> None:
    token = ring.add(BOB, expires=None, now=0)
    assert authenticate(Headers({name: value.format(token)}), ring, 0) == BOB


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", "{}"),
        ("Authorization", "Basic {}"),
        ("Authorization", "Bearer x {}"),
        ("Authorization", "Bearer{}"),
        ("Cookie", "{}"),
        ("X-Api-Key", "Bearer {}"),
    ],
)
def test_elsewhere_it_is_not(ring: KeyRing, name: str, value: str) -> None:
    token = ring.add(BOB, expires=None, now=0)
    with pytest.raises(RequestError, match="needed") as caught:
        authenticate(Headers({name: value.format(token)}), ring, 0)
    assert caught.value.status == 401
    assert token not in caught.value.message


def test_a_wrong_bearer_is_not_saved_by_another_header(ring: KeyRing) -> None:
    token = ring.add(BOB, expires=None, now=0)
    headers = {"authorization": "Bearer wrong", "x-api-key": token}
    with pytest.raises(RequestError):
        authenticate(headers, ring, 0)


def test_a_model_of_others_is_refused_as_one_that_does_not_exist() -> None:
    told = []
    for name in ("b", "c"):
        with pytest.raises(RequestError) as caught:
            allow_model(BOB, name, SERVED)
        assert (caught.value.status, caught.value.code) == (404, "model_not_found")
        told.append(caught.value.message.replace(repr(name), "?"))
    assert told[0] == told[1]
    assert "known: a" in told[0]
    allow_model(BOB, "a", SERVED)
    allow_model(ANYONE, "b", SERVED)


def test_a_key_for_a_model_that_is_not_served_does_not_make_it_exist() -> None:
    with pytest.raises(RequestError):
        allow_model(Caller(name="x", models=frozenset({"z"})), "z", SERVED)
    assert visible(Caller(name="x", models=frozenset({"z"})), SERVED) == []
    assert visible(ANYONE, SERVED) == SERVED
