"""What was let out: one file a release in the workspace, and a name for the one that is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from residency import audit
from residency.errors import InputError, StorageError
from residency.store import Store, write_atomic
from residency.types import Artifact, Build, Rate, Release, Verdict, to_json


def _folder(store: Store) -> Path:
    return store.root / "releases"


def _from_dict(values: dict[str, Any]) -> Release:
    build = values["build"]
    verdict = values["verdict"]
    return Release(
        **{
            **values,
            "build": Build(
                **{
                    **build,
                    "stop_tokens": tuple(build["stop_tokens"]),
                    "notes": tuple(build["notes"]),
                }
            ),
            "verdict": Verdict(
                **{**verdict, "figures": {k: Rate(**v) for k, v in verdict["figures"].items()}}
            ),
        }
    )


def write(store: Store, release: Release) -> None:
    """Keep a release and make it the current one."""
    write_atomic(_folder(store) / f"{release.name}.json", to_json(release, indent=1))
    promote(store, release.name)


def promote(store: Store, name: str) -> None:
    """Make `name` the release that is served; the audit log has it before it is so."""
    release, before = read(store, name), current_name(store)
    if before != name:
        back = before and release.created < read(store, before).created
        audit.append(
            store.root.parent,
            "release rolled back" if back else "release promoted",
            audit.operator(),
            {"release": name, "before": before},
        )
    write_atomic(_folder(store) / "current", name + "\n")


def current(store: Store) -> Release:
    """The release that is served. Raises `InputError` when nothing has passed the gate yet."""
    if name := current_name(store):
        return read(store, name)
    raise InputError(
        f"{store.root.parent}: there is no release yet", hint="make one with: residency run"
    )


def current_name(store: Store) -> str:
    """The name of the release that is served; empty when nothing was released yet."""
    path = _folder(store) / "current"
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def read(store: Store, name: str) -> Release:
    """The release called `name`. Raises `InputError` with the names that exist."""
    path = _folder(store) / f"{name}.json"
    try:
        return _from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        known = ", ".join(r.name for r in every(store)) or "none"
        raise InputError(f"no release is called {name}", hint=f"there are: {known}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path}: damaged ({error})", hint="run: residency run") from error


def every(store: Store) -> list[Release]:
    """All releases, oldest first."""
    found = [read(store, path.stem) for path in _folder(store).glob("*.json")]
    return sorted(found, key=lambda release: (release.created, release.name))


def model_file(store: Store, release: Release) -> Path:
    """The file that the engine loads. Raises `InputError` when it has been deleted."""
    path = store.root / "objects" / release.artifact / release.build.file
    if not path.is_file():
        raise InputError(f"{path}: the release's model is gone", hint="run: residency run")
    return path


def merged_model(store: Store, release: Release) -> Artifact:
    """The Hugging Face folder that the release's build was made from. Raises `InputError` when its
    record is gone, and `StorageError` when its bytes are."""
    for record in store.records():
        digests = {output["digest"] for output in record.outputs.values()}
        if release.artifact in digests and "merged" in record.outputs:
            return store.output(record, "merged")
    raise InputError(
        f"{release.name}: nothing says from which merged model it was made",
        hint="run: residency run",
    )
