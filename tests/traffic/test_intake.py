"""What an import keeps of an exchange, and when it stops."""

import dataclasses
import os
from pathlib import Path

import pytest

from residency.config import TrafficSettings
from residency.errors import ResidencyError
from residency.traffic import logs
from residency.traffic.intake import SHOWN, Done, Intake, _beside, kept
from residency.traffic.logs import Part
from residency.traffic.mask import masked, pseudonym
from residency.traffic.store import TrafficStore
from residency.types import to_json
from tests.traffic.exchanges import exchange

SALT = b"salt"
PERSONAL = exchange(1, "write to bob@example.com", subject="bob", tags={"desk": "bob@example.com"})


def log(folder: Path, *lines: str) -> Path:
    path = folder / "log.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_masking_keeps_counts_of_what_was_there() -> None:
    one = kept(PERSONAL, SALT, "mask")
    hidden = masked(PERSONAL, SALT)
    assert (one.request, one.subject) == (hidden.request, hidden.subject)
    assert set(one.tags["personal"]) == {"EMAIL"}
    assert one.tags["desk"] == "[EMAIL_1]"


def test_keeping_changes_nothing_but_the_tag() -> None:
    one = kept(PERSONAL, SALT, "keep")
    assert dataclasses.replace(one, tags=PERSONAL.tags) == PERSONAL
    assert one.tags["personal"]["EMAIL"] >= 1


def test_dropping_leaves_figures_and_counts() -> None:
    one = kept(PERSONAL, SALT, "drop")
    assert (one.request, one.response) == ({}, None)
    assert (one.id, one.latency, one.subject) == (PERSONAL.id, 0.25, pseudonym("bob", SALT))
    assert one.tags == {
        "desk": "[EMAIL_1]",
        "personal": kept(PERSONAL, SALT, "mask").tags["personal"],
    }


def test_where_nothing_was_found_nothing_is_dropped() -> None:
    assert kept(exchange(1), SALT, "drop") == exchange(1)


def test_a_long_log_comes_in_whole(either: TrafficStore, tmp_path: Path) -> None:
    many = [exchange(n, f"call me on 020 7946 {n:04}") for n in range(4100)]  # three batches
    intake = Intake(either, TrafficSettings())
    intake.run([log(tmp_path, *map(to_json, many))])
    assert (intake.read, intake.added, intake.rejected) == (4100, 4100, 0)
    assert list(either.between(0, 1e12)) == [kept(one, either.salt, "mask") for one in many]


def die(part: Part) -> Done:
    os._exit(9)


def test_a_process_that_dies_is_told(tmp_path: Path) -> None:
    found = logs.parts(log(tmp_path, to_json(exchange(1))))
    with pytest.raises(ResidencyError, match="died"):
        list(_beside(die, found, 1))


def test_a_second_import_adds_nothing(either: TrafficStore, tmp_path: Path) -> None:
    path = log(tmp_path, *(to_json(exchange(n)) for n in range(20)))
    Intake(either, TrafficSettings()).run([path])
    again = Intake(either, TrafficSettings())
    again.run([path, path])
    assert (again.read, again.added) == (40, 0)
    assert either.count() == 20


@pytest.mark.parametrize(("rejects", "added"), [(0, 10), (29, 10), (30, 20)])
def test_too_many_bad_lines_end_it_and_what_was_good_stays(
    store: TrafficStore, tmp_path: Path, rejects: int, added: int
) -> None:
    good = [to_json(exchange(n)) for n in range(20)]
    path = log(tmp_path, *good[:10], *["{bad"] * 30, *good[10:])
    intake = Intake(store, TrafficSettings(rejects=rejects))
    intake.run([path])
    assert intake.stopped == (rejects < 30)
    assert store.count() == intake.added == added
    assert intake.rejected == min(rejects + 1, 30)
    assert len(intake.shown) == min(intake.rejected, SHOWN)
    assert intake.shown[0].startswith(f"{path}:11: ")
