"""Artifacts and the records of what made them: content-addressed, atomic, with lineage.

    WORKSPACE/.residency/
      objects/DIGEST/...          an artifact: a folder that is never changed once it stands here
      records/STAGE-KEY.json      written last: where it exists, the stage has finished
      work/STAGE-KEY/             a stage at work; kept when it is killed, so that it can resume
      releases/NAME.json          what was let out;  current: the name of the one that is served
      lock                        held by the one process that may write

Everything reaches its place by a rename within one file system, after its bytes are on the disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from residency import __version__
from residency.errors import StorageError
from residency.types import Artifact, Record, to_dict, to_json

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
RECORDED_PACKAGES = ("torch", "transformers", "peft", "trl", "xllamacpp", "libgguf", "tokenizers")
VOLATILE = "volatile"


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """SHA-256 of a text in UTF-8, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_tree(root: Path) -> str:
    """Digest of a folder: over each file's relative path and SHA-256, in order of path.

    A top folder named `volatile` is left out: it holds what differs from run to run, such as
    timings and the pages made from them.
    """
    total = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        name = path.relative_to(root)
        if name.parts[0] != VOLATILE:
            total.update(f"{name.as_posix()}\0{sha256_file(path)}\n".encode())
    return total.hexdigest()


def digest_of(path: Path) -> str:
    """`sha256_file` of a file, `digest_tree` of a folder."""
    return digest_tree(path) if path.is_dir() else sha256_file(path)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write at `path` into a `StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some room, or move the workspace; residency gc frees what no release needs"
            raise StorageError(f"{path}: no space left on the disk", hint=hint) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            hint = "make the workspace writable, or name another with --workspace DIR"
            raise StorageError(f"{path}: cannot be written: {error.strerror}", hint=hint) from error
        raise


@contextlib.contextmanager
def database_errors(path: Path, what: str) -> Iterator[None]:
    """Turn what SQLite and the operating system refuse at `path` into a `StorageError`; `what` are
    the rows that are kept there."""
    try:
        with storage_errors(path):
            yield
    except sqlite3.Error as error:
        raise StorageError(
            f"{path}: the {what} cannot be read or written: {error}",
            hint="see that the disk has room and no other program holds the file",
        ) from error


def write_atomic(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Write a small text file so that a reader sees the old bytes or the new, never a part.

    `mode` is the new file's, less the process's mask.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


def whole_lines(path: Path) -> list[str]:
    """The lines of a file that grows line by line, none where there is no file. A last one that a
    kill cut off is taken away."""
    if not path.exists():
        return []
    *lines, last = path.read_text(encoding="utf-8").split("\n")
    if last:
        write_atomic(path, "".join(line + "\n" for line in lines))
    return lines


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path`. Where another process does, wait for it, which is for short work,
    or raise `BlockingIOError`."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)


def sync_tree(root: Path) -> None:
    """Have the bytes of all files below `root` on the disk before it is renamed into place."""
    for path in root.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def now() -> str:
    """The time, UTC, ISO 8601, to the microsecond: records are ordered by it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def package_versions() -> dict[str, str]:
    """Versions of what can change a stage's result."""
    versions = {"residency": __version__}
    for name in RECORDED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def code_digest(*packages: str) -> str:
    """Digest of the source of our own packages or modules, so that a changed stage runs again."""
    home = Path(__file__).parent
    total = hashlib.sha256()
    for name in packages:
        single = home / f"{name}.py"
        files = [single] if single.exists() else sorted((home / name).rglob("*.py"))
        for path in files:
            total.update(f"{path.relative_to(home)}\0{sha256_file(path)}\n".encode())
    return total.hexdigest()


def stage_key(stage: str, inputs: Mapping[str, str], settings: Mapping[str, Any], code: str) -> str:
    """What identifies a stage's work: 16 hex digits over its inputs, settings and code."""
    whole = {"stage": stage, "inputs": inputs, "settings": settings, "code": code}
    return sha256_text(to_json(whole))[:16]


@dataclass(kw_only=True, slots=True)
class Draft:
    """A stage at work: a folder to write in, which becomes artifacts and a record, or nothing.

    `path` survives a kill and is found again by the next run of the same work; whether the stage
    uses what it finds there is the stage's affair.
    """

    store: Store
    stage: str
    key: str
    path: Path
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    seed: int
    started: str = field(default_factory=now)
    clock: float = field(default_factory=time.monotonic)

    def clear(self) -> None:
        """Begin from an empty folder: for a stage that has nothing to resume from."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)

    def finish(self, outputs: Mapping[str, tuple[Path, str]], figures: Mapping[str, Any]) -> Record:
        """Move each output folder into the store and write the record; then drop the rest.

        `outputs` maps a name to a folder under `path` and its kind.
        """
        kept = {}
        for name, (folder, kind) in outputs.items():
            artifact = self.store.put(folder, kind)
            kept[name] = {"kind": kind, "digest": artifact.digest}
        record = Record(
            stage=self.stage,
            key=self.key,
            inputs=dict(self.inputs),
            settings=dict(self.settings),
            versions=package_versions(),
            seed=self.seed,
            started=self.started,
            seconds=round(time.monotonic() - self.clock, 3),
            figures=figures,
            outputs=kept,
        )
        write_atomic(self.store.record_path(self.stage, self.key), to_json(record, indent=1))
        shutil.rmtree(self.path, ignore_errors=True)
        return record


class Store:
    """The artifacts and records of one workspace."""

    def __init__(self, workspace: Path) -> None:
        self.root = workspace / ".residency"

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the workspace's lock. Raises `StorageError` when another process holds it."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self.root / "lock", wait=False))
            except BlockingIOError:
                raise StorageError(
                    f"{self.root}: another residency process is at work here",
                    hint="wait until it ends, or stop it",
                ) from None
            yield

    def record_path(self, stage: str, key: str) -> Path:
        return self.root / "records" / f"{stage}-{key}.json"

    def find(self, stage: str, key: str) -> Record | None:
        """The record of finished work, if it and all its artifacts are here."""
        path = self.record_path(stage, key)
        if not path.exists():
            return None
        record = read_record(path)
        whole = all((self.root / "objects" / o["digest"]).is_dir() for o in record.outputs.values())
        return record if whole else None

    def records(self) -> list[Record]:
        """All records, oldest first."""
        found = [read_record(path) for path in (self.root / "records").glob("*.json")]
        return sorted(found, key=lambda record: (record.started, record.stage))

    def last(self, stage: str) -> Record | None:
        """The newest record of `stage`."""
        return next((one for one in reversed(self.records()) if one.stage == stage), None)

    def open(
        self,
        stage: str,
        key: str,
        *,
        inputs: Mapping[str, str],
        settings: Mapping[str, Any],
        seed: int,
    ) -> Draft:
        """A draft for the work `key`; its folder may hold what a killed run left."""
        path = self.root / "work" / f"{stage}-{key}"
        with storage_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        return Draft(
            store=self, stage=stage, key=key, path=path, inputs=inputs, settings=settings, seed=seed
        )

    def put(self, folder: Path, kind: str) -> Artifact:
        """Move `folder` into the store under its digest; the same bytes are kept once."""
        with storage_errors(self.root):
            sync_tree(folder)
            digest = digest_tree(folder)
            place = self.root / "objects" / digest
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():
                if (folder / VOLATILE).exists():
                    shutil.rmtree(place / VOLATILE, ignore_errors=True)
                    (folder / VOLATILE).rename(place / VOLATILE)
                shutil.rmtree(folder)
            else:
                folder.rename(place)
        return Artifact(path=place, kind=kind, digest=digest)

    def output(self, record: Record, name: str) -> Artifact:
        """The artifact that `record` calls `name`. Raises `StorageError` if it is not whole."""
        entry = record.outputs[name]
        place = self.root / "objects" / entry["digest"]
        if not place.is_dir():
            raise StorageError(
                f"{place}: the {entry['kind']} of stage {record.stage} is gone",
                hint="make it again with: residency run",
            )
        return Artifact(path=place, kind=entry["kind"], digest=entry["digest"])

    def lineage(self, digest: str) -> dict[str, Any]:
        """From which bytes an artifact was made: a tree of stages down to files and base models."""
        maker = next(
            (r for r in self.records() for o in r.outputs.values() if o["digest"] == digest), None
        )
        if maker is None:
            return {"digest": digest}
        return {
            "digest": digest,
            "stage": maker.stage,
            "key": maker.key,
            "settings": to_dict(maker.settings),
            "versions": dict(maker.versions),
            "from": {name: self.lineage(source) for name, source in maker.inputs.items()},
        }


def read_record(path: Path) -> Record:
    """Read a record file. Raises `StorageError` when it is damaged or of a newer format."""
    record = read_as(Record, path, "record", hint="delete the file and run again")
    if record.format != 1:
        raise StorageError(
            f"{path}: record format {record.format} is newer than this residency",
            hint="update residency",
        )
    return record


def read_as(kind: type[T], path: Path, what: str = "", *, hint: str) -> T:
    """What `to_json` wrote to `path` of a `kind`, which is a dataclass; `what` names it in errors.

    Raises `StorageError`, with `hint`, where the file is not there or is no such thing.
    """
    from pydantic import ValidationError

    try:
        value: T = _adapter(cast(Hashable, kind)).validate_json(path.read_bytes(), extra="forbid")
        return value
    except (OSError, ValidationError) as error:
        why = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            why = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        raise StorageError(f"{path}: {f'damaged {what}'.strip()} ({why})", hint=hint) from error


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
