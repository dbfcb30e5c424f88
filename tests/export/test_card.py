"""Card, bill of materials and sums of the builds of the small specialist."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from residency.builds import CARD, changed_since_sums, read_build
from residency.export.bom import write_bom
from residency.export.card import write_card
from residency.export.stage import Inputs
from tests.export.conftest import Exported
from tests.specialist import Specialist


def given(specialist: Specialist) -> Inputs:
    return Inputs(dataset=specialist.dataset, trained=specialist.adapter, base=specialist.base)


@pytest.mark.parametrize("name", ["merged", "f16", "Q4_K_M"])
def test_every_build_has_its_card_and_sums(
    exported: Exported, specialist: Specialist, name: str
) -> None:
    folder = exported.folder(name)
    assert changed_since_sums(folder) == []
    card = (folder / CARD).read_text()
    assert card.startswith('---\nlicense: "none"\nbase_model: "small"\n---\n')
    for fact in (read_build(folder).digest, specialist.dataset.digest, "rank 4, alpha 8"):
        assert fact in card
    assert "rows: train 5, validation 5" in card


def test_an_unknown_licence_is_said(
    exported: Exported, specialist: Specialist, tmp_path: Path
) -> None:
    inputs = given(specialist)
    inputs = dataclasses.replace(inputs, base=dataclasses.replace(inputs.base, license=""))
    write_card(tmp_path, read_build(exported.folder("f16")), inputs, 0.0)
    assert "| licence of the base | unknown: look it up" in (tmp_path / CARD).read_text()


def schema(name: str) -> Any:
    files = importlib.resources.files("cyclonedx.schema._res")
    return json.loads((files / f"{name}.SNAPSHOT.schema.json").read_text())


def test_the_bill_is_of_the_published_schema(exported: Exported) -> None:
    bill = json.loads((exported.folder("Q8_0") / "bom.json").read_text())
    # By the names under which the schema refers to them, which are not their own ids.
    place = "http://cyclonedx.org/schema/{}.SNAPSHOT.schema.json"
    parts = [(place.format(name), schema(name)) for name in ("spdx", "jsf-0.82")]
    registry = jsonschema_rs.Registry(parts)
    judge = jsonschema_rs.validator_for(schema("bom-1.6"), registry=registry)
    assert [error.message for error in judge.iter_errors(bill)] == []
    refs = {one["bom-ref"] for one in bill["components"]}
    assert set(bill["dependencies"][0]["dependsOn"]) == refs >= {"base", "data"}
    kinds = {one["name"]: one for one in bill["components"]}
    assert kinds["torch"]["licenses"]
    with pytest.raises(jsonschema_rs.ValidationError):
        judge.validate({**bill, "metadata": {"component": {"type": "model"}}})


def test_the_bill_has_the_same_bytes_again(
    exported: Exported, specialist: Specialist, tmp_path: Path
) -> None:
    folder = exported.folder("Q8_0")
    divergence = exported.record.figures["divergence"]["Q8_0"]
    write_bom(tmp_path, read_build(folder), given(specialist), divergence)
    assert (tmp_path / "bom.json").read_bytes() == (folder / "bom.json").read_bytes()
