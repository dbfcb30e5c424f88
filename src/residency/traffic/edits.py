"""Names that the user gave to categories: WORKSPACE/categories.toml, kept between reports.

A category has an identity there, and its centre as it was first seen is kept in
WORKSPACE/.residency/categories.json. In a later report it is the category whose centre is nearest;
where the centres are lost or another encoder's, the one that would get the same name. What is in
the file is never rewritten: new categories are added at its end.
"""

from __future__ import annotations

import base64
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residency.errors import InputError
from residency.store import sha256_text, storage_errors, write_atomic
from residency.traffic.naming import free

FILE_NAME = "categories.toml"
_CENTRES = Path(".residency") / "categories.json"
_SAME = (
    0.75  # cosine of centres: over it lie nearly all that two halves of a log share (docs/log.md)
)
_HEAD = """\
# Categories of this workspace's traffic. Change a `name` to rename one; give two the same `name`
# to merge them. The next `residency traffic report` keeps what is here and adds what is new.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """`found` is the name that it was given, `name` the user's; `centre` None where it is lost."""

    id: str
    found: str
    name: str
    centre: NDArray[np.float32] | None = None


def renamed(
    workspace: Path, names: Sequence[str], centres: NDArray[np.float32], identity: str
) -> list[str]:
    """What the user calls the categories; two with one name are one. New ones are added to the
    file under their own name.

    `centres` are vectors of the encoder `identity`. Raises `InputError` where the file cannot be
    read as what it should be, and `StorageError` where it cannot be written.
    """
    path = workspace / FILE_NAME
    known = _known(path, _read_centres(workspace / _CENTRES, identity))
    matched = _matched(names, centres, known)
    new = {
        place: _Known(
            id=_new_id(centres[place], {one.id for one in known}),
            found=names[place],
            name=free(names[place], {one.name for one in known}),
            centre=centres[place],
        )
        for place in range(len(names))
        if place not in matched
    }
    seen = matched | new
    if new:
        _add(path, list(new.values()))
    _write_centres(workspace / _CENTRES, identity, known, seen, centres)
    return [seen[place].name for place in range(len(names))]


def _known(path: Path, centres: Mapping[str, NDArray[np.float32]]) -> list[_Known]:
    try:
        with storage_errors(path):
            text = path.read_text(encoding="utf-8") if path.exists() else ""
        rows = tomllib.loads(text).get("category", [])
        return [
            _Known(
                id=_text(row, "id"),
                found=_text(row, "found"),
                name=_text(row, "name"),
                centre=centres.get(row["id"]),
            )
            for row in rows
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path}: not a list of categories ({error})",
            hint="each [[category]] has an id, a found and a name, all text; "
            "without the file, a new one is written",
        ) from error


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} = {value!r} is no text")
    return value


def _matched(
    names: Sequence[str], centres: NDArray[np.float32], known: Sequence[_Known]
) -> dict[int, _Known]:
    """Each category with the known one that it is, the most alike pairs first."""
    likeness = [
        (float(centres[place] @ one.centre), place, number)
        for number, one in enumerate(known)
        if one.centre is not None
        for place in range(len(names))
    ]
    likeness = [pair for pair in likeness if pair[0] >= _SAME]
    likeness += [
        (0.0, place, number)
        for number, one in enumerate(known)
        if one.centre is None
        for place, name in enumerate(names)
        if name == one.found
    ]
    found: dict[int, _Known] = {}
    taken: set[int] = set()
    for _, place, number in sorted(likeness, key=lambda pair: (-pair[0], *pair[1:])):
        if place not in found and number not in taken:
            found[place] = known[number]
            taken.add(number)
    return found


def _new_id(centre: NDArray[np.float32], taken: set[str]) -> str:
    digest = sha256_text(centre.tobytes().hex())
    return next(digest[i : i + 8] for i in range(len(digest)) if digest[i : i + 8] not in taken)


def _add(path: Path, new: Sequence[_Known]) -> None:
    text = path.read_text(encoding="utf-8") if path.exists() else _HEAD
    for one in new:
        rows = (f"{key} = {_quoted(getattr(one, key))}" for key in ("id", "found", "name"))
        text += "\n[[category]]\n" + "\n".join(rows) + "\n"
    write_atomic(path, text)


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's, but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _read_centres(path: Path, identity: str) -> dict[str, NDArray[np.float32]]:
    """Centres by identity of category; none where the file is lost, damaged or another encoder's:
    names are left then.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["encoder"] != identity:
            return {}
        return {
            one: np.frombuffer(base64.b64decode(text), dtype="<f4")
            for one, text in kept["centres"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_centres(
    path: Path,
    identity: str,
    known: Sequence[_Known],
    seen: Mapping[int, _Known],
    centres: NDArray[np.float32],
) -> None:
    """A category keeps its first centre, so that it cannot wander away from the user's name."""
    kept = {one.id: one.centre for one in known if one.centre is not None}
    for place, one in seen.items():
        kept.setdefault(one.id, centres[place])
    texts = {
        one: base64.b64encode(centre.astype("<f4").tobytes()).decode()
        for one, centre in kept.items()
    }
    write_atomic(path, json.dumps({"encoder": identity, "centres": texts}))
