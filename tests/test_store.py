import json
import multiprocessing
from pathlib import Path

import pytest

from residency.errors import StorageError
from residency.store import Store, digest_tree, stage_key, storage_errors, write_atomic


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def work(store: Store, *, key: str = "k" * 16, text: str = "one", inputs=None):
    draft = store.open("data", key, inputs=inputs or {}, settings={"a": 1}, seed=3)
    folder = draft.path / "dataset"
    folder.mkdir()
    (folder / "train.jsonl").write_text(text)
    return draft.finish({"dataset": (folder, "dataset")}, {"rows": 1})


def test_a_finished_stage_is_found_again(store: Store) -> None:
    record = work(store)
    assert store.find("data", "k" * 16) == record
    artifact = store.output(record, "dataset")
    assert (artifact.path / "train.jsonl").read_text() == "one"
    assert not list((store.root / "work").iterdir())


def test_work_that_was_not_finished_is_not_found(store: Store) -> None:
    draft = store.open("data", "k" * 16, inputs={}, settings={}, seed=0)
    (draft.path / "half").write_text("half")
    assert store.find("data", "k" * 16) is None
    again = store.open("data", "k" * 16, inputs={}, settings={}, seed=0)
    assert (again.path / "half").read_text() == "half"


def test_of_two_stages_within_a_second_the_second_is_the_last(store: Store) -> None:
    keys = [letter * 16 for letter in "gbfahc"]
    assert keys == [work(store, key=key, text=key).key for key in keys]
    assert [record.key for record in store.records()] == keys
    assert store.last("data").key == keys[-1]


def test_a_record_whose_bytes_are_gone_does_not_count(store: Store) -> None:
    import shutil

    record = work(store)
    shutil.rmtree(store.output(record, "dataset").path)
    assert store.find("data", "k" * 16) is None


def test_equal_bytes_are_kept_once(store: Store) -> None:
    first, second = work(store, key="a" * 16), work(store, key="b" * 16)
    assert first.outputs == second.outputs
    assert len(list((store.root / "objects").iterdir())) == 1


def test_volatile_files_do_not_count_in_the_digest(tmp_path: Path) -> None:
    (tmp_path / "volatile").mkdir()
    (tmp_path / "answers").write_text("x")
    before = digest_tree(tmp_path)
    (tmp_path / "volatile" / "speed.json").write_text("1")
    assert digest_tree(tmp_path) == before
    (tmp_path / "answers").write_text("y")
    assert digest_tree(tmp_path) != before


def test_a_name_moved_between_files_changes_the_digest(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = digest_tree(tmp_path)
    (tmp_path / "a" / "x").rename(tmp_path / "b" / "x")
    assert digest_tree(tmp_path) != first


@pytest.mark.parametrize("part", ["stage", "inputs", "settings", "code"])
def test_every_part_of_the_work_is_in_its_key(part: str) -> None:
    given = {"stage": "data", "inputs": {"a": "1"}, "settings": {"b": 2}, "code": "c"}
    changed = {**given, part: "other" if part in ("stage", "code") else {"a": "changed"}}
    assert stage_key(**given) != stage_key(**changed)


def test_lineage_goes_down_to_the_given_bytes(store: Store) -> None:
    first = work(store, key="a" * 16, inputs={"file": "f" * 64})
    digest = first.outputs["dataset"]["digest"]
    second = work(store, key="b" * 16, text="two", inputs={"dataset": digest})
    tree = store.lineage(second.outputs["dataset"]["digest"])
    assert tree["from"]["dataset"]["from"]["file"] == {"digest": "f" * 64}


def test_a_damaged_record_is_named(store: Store) -> None:
    work(store)
    path = store.record_path("data", "k" * 16)
    path.write_text("{")
    with pytest.raises(StorageError, match="damaged record"):
        store.find("data", "k" * 16)


def test_a_record_of_a_newer_format_is_refused(store: Store) -> None:
    work(store)
    path = store.record_path("data", "k" * 16)
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(StorageError, match="newer"):
        store.find("data", "k" * 16)


def _hold(path: Path, held, done) -> None:
    with Store(path).writing():
        held.set()
        done.wait(20)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, done))
    other.start()
    assert held.wait(20)
    with pytest.raises(StorageError, match="another residency process"), Store(tmp_path).writing():
        pass
    done.set()
    other.join()
    with Store(tmp_path).writing():
        pass


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="no space left"),
        storage_errors(tmp_path),
        Path("/dev/full").open("w") as full,
    ):
        full.write("x" * 100_000)


def test_an_atomic_write_leaves_nothing_else(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.json", "1")
    write_atomic(tmp_path / "a.json", "2")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "2"
