"""A model from nothing for a language that no model knows: the shipped recipe, start to end."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from residency.store import Store
from residency.verbs.workspace import RECIPES
from tests.e2e.conftest import residency


@pytest.fixture(scope="module")
def hoist() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hoist", RECIPES / "hoist.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_recipe_writes_its_rows_and_they_use_the_whole_grammar(
    hoist: ModuleType, tmp_path: Path
) -> None:
    residency("init", tmp_path, "--recipe", "hoist")
    rows = [json.loads(line) for line in (tmp_path / "hoist.jsonl").read_text().splitlines()]
    assert len({row["prompt"] for row in rows}) == len(rows) == hoist.ROWS
    used = {rule for row in rows for rule in hoist.rules_of(row["completion"])}
    assert used == set(hoist.RULES)


@pytest.mark.slow
def test_it_learns_the_whole_grammar(hoist: ModuleType, tmp_path: Path) -> None:
    residency("init", tmp_path, "--recipe", "hoist")
    said = json.loads(residency("run", "--workspace", tmp_path, "--json").stdout)
    figures = said["stages"][-1]["figures"]
    assert "base-f16" not in {row["build"] for row in figures["rows"]}
    released = next(row for row in figures["rows"] if row["build"] == said["release"])
    assert released["rates"]["exact"]["value"] >= 0.9
    # What it was tested on has every rule of the grammar, and of each it gets most right.
    for rule, (right, count) in by_rule(tmp_path, hoist, said["release"]).items():
        assert count > 0, rule
        assert right / count >= 0.75, rule
    asked = residency("ask", "emergency! move 7 drums from B3 to dock 4", "--workspace", tmp_path)
    assert asked.stdout.strip() == "!! > 7kd B3 D4"


def by_rule(folder: Path, hoist: ModuleType, build: str) -> dict[str, tuple[int, int]]:
    """Right answers and cases, by the rule of the grammar that a command uses."""
    store = Store(folder)
    gate = next(record for record in store.records() if record.stage == "gate")
    scores = json.loads((store.output(gate, "verdict").path / "scores.json").read_text())
    commands = [one.code for one in hoist.rows(hoist.ROWS, hoist.SEED)]
    counts = dict.fromkeys(hoist.RULES, (0, 0))
    for case in scores["cases"]:
        line = int(case["source"].rpartition(":")[2])
        for rule in hoist.rules_of(commands[line - 1]):
            right, count = counts[rule]
            counts[rule] = (right + case["builds"][build]["exact"], count + 1)
    return counts
