"""TOML that a user writes, read strictly: what is not known is refused, with its nearest match."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from residency.errors import SettingsError, StorageError

Model = TypeVar("Model", bound=BaseModel)


def strict(kind: type[Model], text: str, place: str) -> Model:
    """A `kind` from TOML `text`. Raises `SettingsError` with `place`, line and nearest match."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            f"{place}: not valid TOML: {error}", hint="see https://toml.io for the format"
        ) from None
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        loc = [str(part) for part in problem["loc"] if isinstance(part, str)]
        message, hint = _explain(kind, dict(problem), loc)
        more = error.error_count() - 1
        also = f" (and {more} more)" if more else ""
        raise SettingsError(f"{place}:{_line(text, loc)}: {message}{also}", hint=hint) from None


def strict_file(kind: type[Model], path: Path, *, place: str = "") -> Model:
    """The same from a file. Raises `StorageError` too."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}: cannot be read: {error}", hint="check the path") from None
    return strict(kind, text, place or str(path))


def _explain(kind: type[BaseModel], problem: dict[str, Any], loc: list[str]) -> tuple[str, str]:
    name = ".".join(loc)
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {name}", nearest(loc[-1], known_keys(kind, loc[:-1]))
    if problem["type"] == "missing":
        return f"{name} is missing", f"add {loc[-1]} = ..."
    return (
        f"{name}: {problem['msg']}, not {problem['input']!r}",
        "docs/reference/settings.md and the comments in the file say what it takes",
    )


def nearest(
    name: str, known: Iterable[str], *, words: str = "known here", cutoff: float = 0.6
) -> str:
    """A hint for `name`, which is none of `known`: the one that is most alike, or all of them."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"did you mean {near[0]}?" if near else f"{words}: {', '.join(known)}"


def known_keys(kind: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """The names that `kind` knows at `place`, a path of its fields; numbers, keys that the user
    gives and members of unions in it are passed over. What takes null alone is not offered."""
    models = [kind]
    for part in place:
        found = [one.model_fields[part] for one in models if part in one.model_fields]
        models = [model for one in found for model in _models(one.annotation)] or models
    fields = [item for one in models for item in one.model_fields.items()]
    return sorted({f.alias or name for name, f in fields if f.annotation is not type(None)})


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _line(text: str, loc: list[str]) -> int:
    """The line of the key `loc`, or of its section, or 1."""
    section, best = "", 1
    wanted = ".".join(loc[:-1])
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\]]+)\]", line):
            section = header[1].strip().replace('"', "")
            if section in (wanted, loc[0], loc[-1]):
                best = number
        elif section == wanted and re.match(rf"\s*[\"']?{re.escape(loc[-1])}[\"']?\s*=", line):
            return number
    return best
