"""A data set of any size needs the memory of a small one: rows are on the disk, not in lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from residency.models.base import BaseModel
from tests import specialist
from tests.train import runs


def peak(folder: Path, tiny: Path, rows: int, steps: int) -> int:
    """The most memory in bytes of a training over `rows` rows that takes `steps` steps."""
    dataset = runs.write_dataset(folder / "dataset", rows).path
    epochs = steps * runs.QUICK["batch"] / rows
    process = runs.start(folder / "workspace", tiny, dataset, epochs=epochs)
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert json.loads(said)["figures"]["steps"] == steps
    return int(json.loads(errors.splitlines()[-1])["peak"])


@pytest.mark.slow
def test_fifty_times_the_rows_take_no_more_memory(base: BaseModel, tmp_path: Path) -> None:
    tiny = specialist.make_base(tmp_path / "base", base.path, width=64).path
    few, many = (peak(tmp_path / str(rows), tiny, rows, 6) for rows in (2_000, 100_000))
    # As lists of Python integers the ids of 98,000 rows more would take several times that.
    assert many < few + 60e6
