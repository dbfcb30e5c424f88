"""Which models a request goes to, and when it goes to none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.config import ServedModel
from residency.errors import SettingsError
from residency.serve.asked import ANYONE, Asked, Caller
from residency.serve.errors import RequestError
from residency.serve.routing import Known, Route, Target, check, route

AWAY = "https://api.example/v1"
MODELS = {
    "small": ServedModel(fallback=["twin", "large"]),
    "twin": ServedModel(fallback=["small", "last"]),
    "large": ServedModel(url=AWAY, fallback=["last"]),
    "last": ServedModel(url="http://127.0.0.1:9000"),
    "alone": ServedModel(url=AWAY),
}
DOCTOR = Caller(name="doctor", never_leave=True)


def no() -> bool:
    return False


def routed(
    model: str = "small",
    caller: Caller = ANYONE,
    known: Known | None = None,
    personal: Callable[[], bool] = no,
) -> Route:
    return route(Asked(api="chat", model=model), caller, MODELS, known or Known(), personal)


def names(found: Route) -> list[str]:
    return [target.name for target in found.targets]


def refusal(**given_: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        routed(**given_)  # type: ignore[arg-type]
    return caught.value


def test_the_model_then_its_fallbacks_then_theirs_each_once() -> None:
    assert names(routed()) == ["small", "twin", "large", "last"]
    assert names(routed("twin")) == ["twin", "small", "last", "large"]


def test_an_unknown_model_is_not_found() -> None:
    error = refusal(model="huge")
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    ("given_", "why"),
    [
        ({"caller": DOCTOR}, "the key doctor"),
        ({"personal": lambda: True}, "personal data"),
        ({"known": Known(sealed=True)}, "sealed"),
    ],
)
def test_what_may_not_leave_goes_to_local_models_or_nowhere(
    given_: dict[str, object], why: str
) -> None:
    found = routed(**given_)  # type: ignore[arg-type]
    assert names(found) == ["small", "twin", "last"]
    assert found.confined
    error = refusal(model="alone", **given_)
    assert (error.status, error.code) == (403, "may_not_leave")
    assert why in error.message


def test_a_key_that_never_leaves_is_confined_where_all_is_local() -> None:
    assert routed("last", DOCTOR).confined
    assert not routed("last").confined


def test_personal_data_is_not_looked_for_where_it_decides_nothing() -> None:
    def looked() -> bool:
        raise AssertionError

    assert names(routed("last", personal=looked)) == ["last"]
    assert names(routed(caller=DOCTOR, personal=looked)) == ["small", "twin", "last"]


def test_what_is_down_or_spent_is_skipped() -> None:
    known = Known(down={"small": "starting"}, left={"large": 0.0, "last": 0.01})
    assert names(routed(known=known)) == ["twin", "last"]


def test_all_down_names_each_reason() -> None:
    down = {"large": "its circuit is open", "last": "starting"}
    error = refusal(model="large", known=Known(down=down))
    assert (error.status, error.code) == (503, "all_routes_down")
    assert "large: its circuit is open; last: starting" in error.message


def test_a_spent_budget_without_another_way_is_429() -> None:
    error = refusal(model="alone", known=Known(left={"alone": 0.0}))
    assert (error.status, error.code) == (429, "insufficient_quota")


def test_an_order_sees_only_what_can_be_asked_and_decides() -> None:
    def last_first(asked: Asked, targets: tuple[Target, ...]) -> Sequence[Target]:
        assert [target.name for target in targets] == ["small", "last"]
        return targets[::-1]

    known = Known(down={"twin": "starting"})
    asked = Asked(api="chat", model="small")
    found = route(asked, DOCTOR, MODELS, known, no, last_first)
    assert names(found) == ["last", "small"]


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://127.8.9.1", True),
        ("http://[::1]:8000", True),
        ("http://[::ffff:127.0.0.1]", True),
        ("http://localhost:8000", True),
        ("http://LOCALHOST", True),
        ("http://localhost.evil", False),
        ("http://127.0.0.1.evil", False),
        ("http://127.0.0.1@evil.example", False),
        ("http://10.0.0.1", False),
        ("http://0.0.0.0", False),
        ("https://api.example/localhost", False),
    ],
)
def test_what_counts_as_local(url: str, local: bool) -> None:
    assert Target(name="m", model=ServedModel(url=url)).local == local


def test_a_fallback_that_is_not_served_is_a_fault_of_the_settings() -> None:
    check(MODELS)
    with pytest.raises(SettingsError, match=r"serve\.models\.a: its fallback b"):
        check({"a": ServedModel(fallback=["b"])})


@given(st.data(), st.booleans(), st.booleans())
def test_no_confined_request_has_a_target_that_leaves(
    data: st.DataObject, never_leave: bool, personal: bool
) -> None:
    known = st.sampled_from(list("abcd"))
    models = {
        name: ServedModel(
            url=data.draw(st.sampled_from(["", AWAY])), fallback=data.draw(st.lists(known))
        )
        for name in "abcd"
    }
    caller = Caller(name="any", never_leave=never_leave)
    try:
        found = route(Asked(api="chat", model="a"), caller, models, Known(), lambda: personal)
    except RequestError as error:
        assert error.code == "may_not_leave"
        assert never_leave or personal
        return
    assert len(set(names(found))) == len(found.targets) > 0
    if never_leave or personal:
        assert all(target.local for target in found.targets)
    else:
        assert names(found)[0] == "a"
