"""TOML that a user writes, read strictly: what is not known is refused, with its nearest match."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

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


def strict_file(kind: type[Model], path: Path) -> Model:
    """The same from a file. Raises `StorageError` too."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}: cannot be read: {error}", hint="check the path") from None
    return strict(kind, text, str(path))


def _explain(kind: type[BaseModel], problem: dict[str, Any], loc: list[str]) -> tuple[str, str]:
    name = ".".join(loc)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(kind, loc[:-1])
        near = difflib.get_close_matches(loc[-1], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"unknown setting {name}", hint
    if problem["type"] == "missing":
        return f"{name} is missing", f"add {loc[-1]} = ..."
    return (
        f"{name}: {problem['msg']}, not {problem['input']!r}",
        "docs/reference/settings.md and the comments in the file say what it takes",
    )


def _known_keys(kind: Any, section: list[str]) -> list[str]:
    for part in section:
        tables = get_origin(kind) is dict  # its keys are names that the user gives
        kind = get_args(kind)[1] if tables else kind.model_fields[part].annotation
        if type(None) in get_args(kind):  # a table that may be left out
            kind = get_args(kind)[0]
    return sorted(kind.model_fields)


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
