"""Each failure has a status, a party and OpenAI's body."""

import pytest

from residency import errors
from residency.serve.errors import ClosingError, Fault, RequestError, fault_of


def subclasses(kind: type[Exception]) -> list[type[Exception]]:
    return [kind, *(deep for sub in kind.__subclasses__() for deep in subclasses(sub))]


def make(kind: type[Exception]) -> Exception:
    if issubclass(kind, errors.EngineRejected):
        return kind("words", status=400)
    return kind("words")


EXPECTED = {
    errors.EngineError: (500, "engine", "engine_error"),
    errors.EngineLoadError: (503, "engine", "engine_load_failed"),
    errors.EngineUnavailable: (503, "engine", "engine_unavailable"),
    errors.EngineLost: (503, "engine", "engine_unavailable"),
    errors.EngineTimeout: (504, "engine", "engine_timeout"),
    errors.EngineRejected: (400, "client", "rejected_by_engine"),
}


@pytest.mark.parametrize("kind", subclasses(errors.EngineError))
def test_every_engine_error_has_its_answer(kind: type[Exception]) -> None:
    fault = fault_of(make(kind))
    assert (fault.status, fault.party, fault.code) == EXPECTED[kind]
    assert fault.message == "words"


@pytest.mark.parametrize(
    ("status", "told", "party"),
    [(400, 400, "client"), (401, 500, "gateway"), (404, 500, "gateway"), (500, 502, "engine")],
)
def test_who_is_at_fault_when_the_engine_rejects(status: int, told: int, party: str) -> None:
    fault = fault_of(errors.EngineRejected("no", status=status))
    assert (fault.status, fault.party) == (told, party)


def test_what_was_not_foreseen_gives_nothing_away() -> None:
    fault = fault_of(ValueError("secret"))
    assert (fault.status, fault.party, fault.code) == (500, "gateway", "internal_error")
    assert "secret" not in str(fault.body())


def test_other_errors_of_ours_are_the_gateways() -> None:
    fault = fault_of(errors.StorageError("disk full", hint="free some"))
    assert (fault.status, fault.party) == (500, "gateway")
    assert fault.body()["residency"] == {"party": "gateway", "hint": "free some"}


def test_what_may_not_leave_is_403_and_no_fault_of_the_clients() -> None:
    fault = fault_of(errors.SealedError("sealed: it tried"))
    assert (fault.status, fault.party, fault.code) == (403, "gateway", "may_not_leave")


def test_a_request_refused_for_now_is_not_the_clients_fault() -> None:
    fault = fault_of(RequestError("busy", status=503, code="queue_timeout"))
    assert (fault.party, fault.type) == ("gateway", "server_error")


def test_a_clients_error_has_openais_body() -> None:
    fault = fault_of(RequestError("bad seed", code="invalid_value", param="seed"))
    assert fault.body() == {
        "error": {
            "message": "bad seed",
            "type": "invalid_request_error",
            "param": "seed",
            "code": "invalid_value",
        },
        "residency": {"party": "client"},
    }
    assert fault.headers() == {"x-residency-party": "client"}


def test_unavailable_says_when_to_come_again() -> None:
    fault: Fault = fault_of(ClosingError("closing"))
    assert fault.headers() == {"x-residency-party": "gateway", "retry-after": "2"}
