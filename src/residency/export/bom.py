"""A bill of materials for a build: model, data and software, as CycloneDX 1.6 in JSON.

The fields are those of the standard's schema (ECMA-424), with which a test checks them. Without
times or chance: builds are known by their bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residency import __version__
from residency.builds import read_training
from residency.export.card import license_of, limits, rows
from residency.types import Build, to_json

if TYPE_CHECKING:
    from residency.export.stage import Inputs

FILE_NAME = "bom.json"
_MODEL, _BASE, _DATA = "model", "base", "data"


def write_bom(folder: Path, build: Build, inputs: Inputs, divergence: float) -> None:
    """Write `bom.json`: its software is what is installed where the build was made."""
    body = _bill(build, inputs, limits(inputs, divergence))
    serial = uuid.uuid5(uuid.NAMESPACE_OID, to_json(body))
    text = to_json({**body, "serialNumber": f"urn:uuid:{serial}"}, indent=1)
    (folder / FILE_NAME).write_text(text + "\n", encoding="utf-8")


def _bill(build: Build, inputs: Inputs, limits: Sequence[str]) -> dict[str, Any]:
    software = _software()
    base = {
        **_component(_BASE, "machine-learning-model", inputs.base.name, inputs.base.digest),
        "description": inputs.base.source,
        "licenses": [{"license": {"name": license_of(inputs.base)}}],
    }
    data = {
        **_component(_DATA, "data", "training data", inputs.dataset.digest),
        "data": [{"type": "dataset", "description": f"rows: {rows(inputs.dataset)}"}],
    }
    model = {
        **_component(_MODEL, "machine-learning-model", build.name, build.digest),
        "description": f"{build.format}, {read_training(inputs.trained.path).words}",
        "licenses": base["licenses"],
        "pedigree": {"ancestors": [{**base, "bom-ref": "ancestor"}]},
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": "text generation",
                "datasets": [{"ref": _DATA}],
            },
            "considerations": {"technicalLimitations": list(limits)},
        },
    }
    needs = [_BASE, _DATA, *(one["bom-ref"] for one in software)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": model,
            "tools": {
                "components": [
                    {"type": "application", "name": "residency", "version": __version__},
                ]
            },
        },
        "components": [base, data, *software],
        "dependencies": [{"ref": _MODEL, "dependsOn": needs}],
    }


def _component(ref: str, kind: str, name: str, digest: str) -> dict[str, Any]:
    hashes = [{"alg": "SHA-256", "content": digest}]
    return {"bom-ref": ref, "type": kind, "name": name, "hashes": hashes}


@cache  # reading what each package says of itself takes most of a second
def _software() -> tuple[dict[str, Any], ...]:
    found = {package.name.lower(): package for package in metadata.distributions()}
    return tuple(_library(package) for _, package in sorted(found.items()))


def _library(package: metadata.Distribution) -> dict[str, Any]:
    purl = f"pkg:pypi/{package.name.lower().replace('_', '-')}@{package.version}"
    license = _license(package)
    return {
        "bom-ref": purl,
        "type": "library",
        "name": package.name,
        "version": package.version,
        "purl": purl,
        **({"licenses": [{"license": {"name": license}}]} if license else {}),
    }


def _license(package: metadata.Distribution) -> str:
    """As the package's metadata names it, newest field first; empty where it does not."""
    expressions, classes, texts = (
        [str(value) for value in package.metadata.get_all(name) or ()]
        for name in ("License-Expression", "Classifier", "License")
    )
    classes = [c.rpartition(" :: ")[2] for c in classes if c.startswith("License :: OSI")]
    # Some put the whole text of the licence into its field: its first line is the title.
    titles = [text.strip().partition("\n")[0] for text in texts]
    return next(iter([*expressions, *classes, *titles]), "")
