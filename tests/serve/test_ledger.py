"""A budget is never passed: not by requests at once, not after a kill, not by rounding."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from residency.errors import StorageError
from residency.serve.errors import RequestError
from residency.serve.ledger import Ledger, Reservation

MAY = 1_778_000_000.0
JUNE = MAY + 31 * 86_400


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def test_past_the_limit_it_is_refused(ledger: Ledger) -> None:
    ledger.reserve("key:bob", 0.75, 1.0, MAY)
    with pytest.raises(RequestError, match=r"key:bob for 2026-05 is 1, 0\.75 is used") as caught:
        ledger.reserve("key:bob", 0.26, 1.0, MAY)
    assert (caught.value.status, caught.value.code) == (429, "insufficient_quota")
    assert caught.value.headers == {"x-should-retry": "false"}
    ledger.reserve("key:bob", 0.25, 1.0, MAY)


def test_the_first_request_too_can_be_too_much(ledger: Ledger) -> None:
    with pytest.raises(RequestError):
        ledger.reserve("key:bob", 1.1, 1.0, MAY)
    assert ledger.spent("key:bob", MAY) == 0


def test_what_was_not_used_is_given_back(ledger: Ledger) -> None:
    reserved = ledger.reserve("key:bob", 1.0, 1.0, MAY)
    ledger.settle(reserved, 0.125)
    assert ledger.spent("key:bob", MAY) == 0.125
    ledger.reserve("key:bob", 0.875, 1.0, MAY)


def test_accounts_and_months_are_apart(ledger: Ledger) -> None:
    late = ledger.reserve("key:bob", 1.0, 1.0, MAY)
    ledger.reserve("model:api", 1.0, 1.0, MAY)
    ledger.reserve("key:bob", 1.0, 1.0, JUNE)
    ledger.settle(late, 0.5)
    assert ledger.spent("key:bob", JUNE) == 1.0
    assert ledger.spent("key:bob", MAY) == 0.5


def test_small_sums_do_not_drift(ledger: Ledger) -> None:
    for _ in range(10):
        ledger.reserve("key:bob", 0.1, 1.0, MAY)
    with pytest.raises(RequestError):
        ledger.reserve("key:bob", 1e-9, 1.0, MAY)


def test_an_endless_budget_is_one(ledger: Ledger) -> None:
    ledger.reserve("key:bob", 1e6, float("inf"), MAY)
    assert ledger.spent("key:bob", MAY) == 1e6


Act = tuple[str, float]
ACTS = st.lists(
    st.tuples(st.sampled_from(["reserve", "settle", "restart"]), st.floats(0, 1)), max_size=25
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=ACTS, limit=st.floats(0, 2))
def test_spent_never_passes_the_limit(
    tmp_path_factory: pytest.TempPathFactory, acts: list[Act], limit: float
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    ledger, open_, cost = Ledger(path), list[tuple[Reservation, float]](), 0.0
    for act, share in acts:
        if act == "reserve":
            try:
                open_.append((ledger.reserve("key:bob", share, limit, MAY), share))
            except RequestError:
                assert ledger.spent("key:bob", MAY) + share > limit - 1e-8
        elif act == "settle" and open_:
            reserved, most = open_.pop()
            ledger.settle(reserved, most * share)
            cost += most * share
        elif act == "restart":
            ledger.close()
            ledger, open_ = Ledger(path), []
        spent = ledger.spent("key:bob", MAY)
        assert spent <= limit
        assert spent >= cost - 1e-9
    ledger.close()


def _spend(path: Path, number: int) -> None:
    ledger = Ledger(path)
    for _ in range(40):
        try:
            reserved = ledger.reserve("key:bob", 0.05, 1.0, MAY)
        except RequestError:
            continue
        ledger.settle(reserved, 0.02 if number else 0.05)


def test_processes_at_once_stay_within_the_limit(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "ledger.sqlite"
    others = [context.Process(target=_spend, args=(path, number)) for number in range(2)]
    for one in others:
        one.start()
    for one in others:
        one.join()
    assert [one.exitcode for one in others] == [0, 0]
    assert 0.93 < Ledger(path).spent("key:bob", MAY) <= 1.0


def _reserve_and_die(path: Path) -> None:
    Ledger(path).reserve("key:bob", 0.7, 1.0, MAY)
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_had_reserved_counts_as_spent(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    other = multiprocessing.get_context("spawn").Process(target=_reserve_and_die, args=(path,))
    other.start()
    other.join()
    assert other.exitcode == -signal.SIGKILL
    assert Ledger(path).spent("key:bob", MAY) == 0.7


def test_a_damaged_ledger_spends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database, " * 100)
    with pytest.raises(StorageError, match="budgets cannot be read"):
        Ledger(path)
