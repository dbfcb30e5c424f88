"""Releases: what they are, what they were made from, and what can go."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from residency import audit, releases
from residency.builds import SIGNATURE, SUMS, changed_since_sums
from residency.cli import Result
from residency.errors import InputError, RefusedError
from residency.export import sign
from residency.store import Store
from residency.types import Record, Release, to_dict, to_json


def _named(store: Store, name: str) -> Release:
    return releases.read(store, name) if name else releases.current(store)


def lineage(workspace: Path, name: str) -> Result:
    """The tree of stages, settings and bytes behind a release."""
    store = Store(workspace)
    release = _named(store, name)
    tree = store.lineage(release.artifact)
    return Result(
        data={"release": release.name, "lineage": tree},
        text="\n".join([f"release {release.name}: {release.build.name}", *_draw(tree, "  ")]),
    )


def _draw(tree: dict[str, Any], indent: str, name: str = "build") -> list[str]:
    made = f"made by {tree['stage']} ({tree['key']})" if "stage" in tree else "given"
    lines = [f"{indent}{name}: {tree['digest'][:16]} {made}"]
    for child, below in tree.get("from", {}).items():
        lines += _draw(below, indent + "  ", child)
    return lines


def list_releases(workspace: Path) -> Result:
    """All releases, oldest first."""
    store = Store(workspace)
    found = releases.every(store)
    served = releases.current(store).name if found else ""
    lines = [
        f"{'*' if r.name == served else ' '} {r.name}  {r.build.name}  {r.created}" for r in found
    ]
    return Result(
        data={"releases": to_dict(found), "current": served},
        text="\n".join(lines) or "no releases yet",
    )


def show(workspace: Path, name: str) -> Result:
    """One release with its verdict."""
    release = _named(Store(workspace), name)
    rates = "\n".join(
        f"  {key}: {rate.value:.3f} ({rate.low:.3f} to {rate.high:.3f}, {rate.n} cases)"
        for key, rate in release.verdict.figures.items()
    )
    text = (
        f"{release.name}: {release.model} on {release.base}, {release.build.name}, "
        f"{release.build.size / 1e6:.0f} MB\n{release.verdict.rule}\n{rates}"
    )
    return Result(data=to_dict(release), text=text)


def promote(workspace: Path, name: str) -> Result:
    """Serve `name` from the next start on."""
    store = Store(workspace)
    with store.writing():
        releases.promote(store, name)
    return Result(data={"current": name}, text=f"{name} is served from the next start on")


def rollback(workspace: Path) -> Result:
    """Serve what was served before the current release; again, what was before that."""
    store = Store(workspace)
    with store.writing():
        left, name = releases.current_name(store), releases.before_current(store)
        releases.promote(store, name)
    return Result(
        data={"current": name, "left": left},
        text=f"back from {left} to {name}, which is served from the next start on",
    )


def verify(workspace: Path, name: str, key: Path | None) -> Result:
    """Whether the files of a release are those that were released, and signed with `key`'s pair.

    Raises `RefusedError` with what has changed, and for a signature that is missing or wrong.
    """
    store = Store(workspace)
    release = _named(store, name)
    folder = releases.folder(store, release.name)
    if not (folder / SUMS).is_file():
        raise InputError(f"{folder}: there is no {SUMS}", hint="release again: residency run")
    if changed := changed_since_sums(folder):
        raise RefusedError(
            f"{release.name}: not as released: {', '.join(changed[:5])}",
            hint="do not serve it; make it again with: residency run",
        )
    signed = (folder / SIGNATURE).is_file()
    words = "it is signed; give the public key with --key" if signed else "it is not signed"
    if key:
        sign.verify(folder, key)
        words = f"it was signed with the pair of {key.name}"
    return Result(
        data={"release": release.name, "signed": signed, "verified": key is not None},
        text=f"{release.name}: every file is as released; {words}",
    )


def gc(workspace: Path, yes: bool) -> Result:
    """Delete artifacts, records and half-done work that no release was made from."""
    store = Store(workspace)
    with store.writing():
        doomed = _unneeded(store)
        size = sum(f.stat().st_size for p in doomed for f in [p, *p.rglob("*")] if f.is_file())
        if not doomed:
            return Result(data={"freed": 0, "deleted": 0}, text="nothing to free")
        if not yes:
            click.echo(
                f"{len(doomed)} things, {size / 1e6:.0f} MB, that no release needs", err=True
            )
            if not click.confirm("delete them?", err=True):
                raise RefusedError("nothing was deleted")
        names = [str(path.relative_to(store.root)) for path in doomed]
        audit.append(workspace, "gc", audit.operator(), {"bytes": size, "deleted": names})
        for path in doomed:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return Result(data={"freed": size, "deleted": len(doomed)}, text=f"{size / 1e6:.0f} MB freed")


def audit_log(workspace: Path) -> Result:
    """All acts, and the head to keep elsewhere."""
    entries = audit.read(workspace)
    lines = [f"{e.time}  {e.act}  by {e.actor}  {to_json(e.details)}" for e in entries]
    head = entries[-1].digest if entries else audit.GENESIS
    return Result(
        data={"entries": to_dict(entries), "head": head},
        text="\n".join([*lines, f"the chain is whole; its head is {head}"]),
    )


def _unneeded(store: Store) -> list[Path]:
    """Records go before their objects, so that no record ever stands without its bytes."""
    needed = _needed(store)
    digests = {o["digest"] for record in needed for o in record.outputs.values()}
    keys = {f"{record.stage}-{record.key}" for record in needed}
    return [
        *(p for p in store.root.glob("records/*.json") if p.stem not in keys),
        *(p for p in store.root.glob("objects/*") if p.name not in digests),
        *store.root.glob("work/*"),
    ]


def _needed(store: Store) -> list[Record]:
    """The records behind all releases: the gate's, and those its inputs came from."""
    records = store.records()
    makers = {o["digest"]: record for record in records for o in record.outputs.values()}
    gates = {release.gate_key for release in releases.every(store)}
    open_, found = [r for r in records if r.key in gates], {}
    while open_:
        record = open_.pop()
        if record.key not in found:
            found[record.key] = record
            open_ += [makers[d] for d in record.inputs.values() if d in makers]
    return list(found.values())
