"""The training page: one HTML file that needs nothing beside itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from residency.errors import StorageError
from residency.pages import template
from residency.train.checkup import FILE_NAME
from residency.train.curves import HEIGHT, LEFT, RIGHT, WIDTH, chart


def read(folder: Path) -> dict[str, Any]:
    """What `checkup.write` put into `folder`. Raises `StorageError` where it is damaged."""
    path = folder / FILE_NAME
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: damaged ({error})", hint="run: residency run train") from None
    return found


def render(found: Mapping[str, Any], figures: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The page, from what `read` gave and a training record's figures; `names` has the specialist's
    `name` and its `base`."""
    curves = found["curves"]
    charts = [
        ("Loss", chart({"training": curves["train"]}, curves["validation"], "loss")),
        ("Learning rate", chart({"rate": curves["rates"]}, [], "learning rate")),
        ("Gradient norm", chart({"norm": curves["norms"]}, [], "gradient norm", tens=True)),
    ]
    return template("residency.train", "training.html.j2", sentence=_sentence).render(
        v=found,
        f=figures,
        names=names,
        charts=[(title, drawn) for title, drawn in charts if drawn],
        size={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT},
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
