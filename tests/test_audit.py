"""The log says what was done, and where somebody has been at it."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from residency import audit, releases
from residency.errors import StorageError
from residency.store import Store
from tests.serve.releases import release


def fill(workspace: Path, count: int = 4) -> Path:
    for number in range(count):
        audit.append(workspace, "gc", "ada", {"bytes": number})
    return workspace / ".residency" / "audit.jsonl"


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_what_was_put_in_comes_out(tmp_path: Path) -> None:
    fill(tmp_path)
    entries = audit.read(tmp_path)
    assert [e.details for e in entries] == [{"bytes": n} for n in range(4)]
    assert {(e.act, e.actor) for e in entries} == {("gc", "ada")}
    assert [e.previous for e in entries] == [audit.GENESIS, *(e.digest for e in entries[:-1])]


def test_no_log_is_an_empty_one(tmp_path: Path) -> None:
    assert audit.read(tmp_path) == []


def test_any_text_can_be_a_detail(tmp_path: Path) -> None:
    details = {"a": "两行\nand more", "b": "not UTF-8: \udc80"}
    audit.append(tmp_path, "traffic erased", "ada", details)
    assert audit.read(tmp_path)[0].details == details


def change(kept: list[bytes]) -> list[bytes]:
    return [kept[0], kept[1].replace(b'"bytes": 1', b'"bytes": 9'), *kept[2:]]


@pytest.mark.parametrize(
    ("tamper", "line"),
    [
        (change, 3),
        (lambda kept: [kept[0], *kept[2:]], 2),
        (lambda kept: kept[1:], 1),
        (lambda kept: [kept[1], kept[0], *kept[2:]], 1),
        (lambda kept: [*kept[:2], kept[1], *kept[2:]], 3),
        (lambda kept: kept[:-1], 3),
        (lambda kept: [*kept[:-1], kept[-1][:-9]], 3),
        (lambda kept: [*kept[:-1], kept[-1].replace(b"ada", b"eve")], None),
        (lambda kept: [], 0),
        (lambda kept: [kept[0], b"[]\n", *kept[1:]], 2),
        (lambda kept: [kept[0], b"\xff\n", *kept[1:]], 2),
    ],
)
def test_tampering_is_found_where_it_was_done(
    tmp_path: Path, tamper: Callable[[list[bytes]], list[bytes]], line: int | None
) -> None:
    path = fill(tmp_path)
    path.write_bytes(b"".join(tamper(lines(path))))
    place = f"{path}:{'' if line is None else f'{line}:'}"
    with pytest.raises(StorageError, match=place):
        audit.read(tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_log_that_was_cut_off_is_still_known_for_it_after_later_acts(
    tmp_path: Path, kept: int
) -> None:
    path = fill(tmp_path)
    path.write_bytes(b"".join(lines(path)[:kept]))
    fill(tmp_path, 2)
    with pytest.raises(StorageError, match=f"{path}:{kept + 1}:"):
        audit.read(tmp_path)


@pytest.mark.parametrize("text", [None, "0" * 64, "\udcff"])
def test_a_head_that_was_changed_is_found(tmp_path: Path, text: str | None) -> None:
    head = fill(tmp_path).with_name("audit.head")
    head.unlink()
    if text is not None:
        head.write_bytes(os.fsencode(text))
    with pytest.raises(StorageError, match="head"):
        audit.read(tmp_path)


def test_a_process_that_died_between_line_and_head_breaks_nothing(tmp_path: Path) -> None:
    path = fill(tmp_path, 1)
    head = path.with_name("audit.head")
    before = head.read_bytes()
    fill(tmp_path, 1)
    head.write_bytes(before)
    assert len(audit.read(tmp_path)) == 2
    fill(tmp_path, 1)
    assert len(audit.read(tmp_path)) == 3


def test_a_line_half_written_is_dropped(tmp_path: Path) -> None:
    path = fill(tmp_path, 2)
    with path.open("ab") as file:
        file.write(b'{"act": "key ad')
    assert len(audit.read(tmp_path)) == 2
    fill(tmp_path, 1)
    assert len(audit.read(tmp_path)) == 3


def test_processes_at_once_make_one_chain(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=fill, args=(tmp_path, 20)) for _ in range(3)]
    for one in others:
        one.start()
    for one in others:
        one.join()
    assert len(audit.read(tmp_path)) == 60


def test_releases_are_acts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = release(name="r1", created="2026-01-01T00:00:00Z")
    new = release(name="r2", created="2026-01-02T00:00:00Z")
    releases.write(store, old)
    releases.write(store, new)
    releases.promote(store, "r1")
    releases.promote(store, "r1")
    told = [(e.act, e.details["release"], e.details["before"]) for e in audit.read(tmp_path)]
    assert told == [
        ("release promoted", "r1", ""),
        ("release promoted", "r2", "r1"),
        ("release rolled back", "r1", "r2"),
    ]


def test_an_act_that_cannot_be_logged_is_not_done(tmp_path: Path) -> None:
    store = Store(tmp_path)
    releases.write(store, release(name="r1"))
    releases.write(store, release(name="r2"))
    (store.root / "audit.jsonl").unlink()
    (store.root / "audit.jsonl").mkdir()
    with pytest.raises(OSError, match="directory"):
        releases.promote(store, "r1")
    assert releases.current(store).name == "r2"
