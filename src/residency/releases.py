"""What was let out: one file a release in the workspace, and a name for the one that is served."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from residency import audit
from residency.builds import CARD, write_sums
from residency.errors import InputError, RefusedError
from residency.store import Store, read_as, storage_errors, write_atomic
from residency.types import Artifact, Release, to_json


def _folder(store: Store) -> Path:
    return store.root / "releases"


def folder(store: Store, name: str) -> Path:
    """Where `lay_out` puts what can be handed on of the release `name`."""
    return _folder(store) / name


def lay_out(store: Store, release: Release) -> Path:
    """Make the release's folder: its build's files, the verdict on its card, and SHA-256 sums.

    The files are links to the store's where the file system knows links, else copies.
    """
    target = folder(store, release.name)
    with storage_errors(target):
        shutil.rmtree(target, ignore_errors=True)
        source = store.root / "objects" / release.artifact
        shutil.copytree(source, target, copy_function=_link)
    # A file that is written anew is no link any more: the store's stays as it is.
    card = (target / CARD).read_text(encoding="utf-8")
    write_atomic(target / CARD, card + _verdict(release))
    write_sums(target)
    return target


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _verdict(release: Release) -> str:
    rows = "".join(
        f"| {name} | {rate.value:.3f} | {rate.low:.3f} to {rate.high:.3f} | {rate.n} |\n"
        for name, rate in sorted(release.verdict.figures.items())
    )
    return f"""
## Verdict

Released as {release.name} on {release.created[:10]}, by this rule: {release.verdict.rule}

| rate | value | 95% interval | cases |
|---|---|---|---|
{rows}
The gate let an answer have {release.max_tokens} tokens, in a context of {release.context}.
"""


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


def before_current(store: Store) -> str:
    """The release that was served when the current one was promoted, as the audit log has it.

    Raises `RefusedError` when there was none.
    """
    name = current(store).name
    acts = [entry for entry in audit.read(store.root.parent) if entry.act == "release promoted"]
    before = [act.details["before"] for act in acts if act.details["release"] == name]
    if not before or not before[-1]:
        raise RefusedError(
            f"no release was served before {name}",
            hint="take one by name with: residency release promote NAME",
        )
    return str(before[-1])


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
    if not path.exists():
        known = ", ".join(r.name for r in every(store)) or "none"
        raise InputError(f"no release is called {name}", hint=f"there are: {known}")
    return read_as(Release, path, hint="run: residency run")


def every(store: Store) -> list[Release]:
    """All releases, oldest first."""
    found = [read(store, path.stem) for path in _folder(store).glob("*.json")]
    return sorted(found, key=lambda release: (release.created, release.name))


def model_file(store: Store, release: Release) -> Path:
    """The file or folder that the engine loads. Raises `InputError` when it has been deleted."""
    path = store.root / "objects" / release.artifact / release.build.file
    if not path.exists():
        raise InputError(f"{path}: the release's model is gone", hint="run: residency run")
    return path


def made_beside(store: Store, release: Release, *names: str) -> Artifact:
    """The first of these outputs of an export that made the release's build too.

    Raises `InputError` when no record has both, and `StorageError` when its bytes are gone.
    """
    records = [
        record
        for record in store.records()
        if release.artifact in {output["digest"] for output in record.outputs.values()}
    ]
    for name in names:
        for record in records:
            if name in record.outputs:
                return store.output(record, name)
    raise InputError(
        f"{release.name}: no {' or '.join(names)} was made beside its build",
        hint="name what is missing in [export] also, then: residency run",
    )
