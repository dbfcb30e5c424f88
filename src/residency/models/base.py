"""Base models: a carried one by name, a local folder, a GGUF file, or a name on the hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from residency.errors import ModelError
from residency.models import carried, folder, hub
from residency.models.cache import build_once, cached_digest, home
from residency.models.gguf_file import DEQUANTIZER, dequantize, read_header
from residency.models.own_tokenizer import BYTES, write_tokenizer
from residency.strict import nearest

__all__ = ["BaseModel", "from_nothing", "home", "resolve"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseModel:
    """A model to start from.

    `path` is a Hugging Face folder (config.json, tokenizer, safetensors, chat template), `digest`
    that of its files, and `source` says in words where they are from. Where `weights` is false it
    only stands for one (see `from_nothing`).
    """

    name: str
    path: Path
    digest: str
    license: str
    source: str
    weights: bool = True


def from_nothing() -> BaseModel:
    """What stands for the base model where there is none: it has no weights, and a tokenizer that
    knows bytes alone, until training learns one."""
    place = home() / "models" / f"nothing-{BYTES}"
    build_once(place, lambda draft: write_tokenizer((), BYTES, draft))
    return BaseModel(
        name="scratch",
        path=place,
        digest=cached_digest(place),
        license="that of its data's owner",
        source="nothing: tokenizer and weights are its own",
        weights=False,
    )


def resolve(name: str, workspace: Path | None = None) -> BaseModel:
    """The base model that `name` means, fetched first if it is not on this machine.

    Tried in this order: a path in `workspace`, a carried model, a path, a name on the hub.
    Raises `ModelError` for a model that cannot be used and `MissingError` when it cannot be got.
    """
    if workspace and (workspace / name).exists():
        name = str(workspace / name)
    if name in carried.MODELS:
        return _from_carried(name)
    path = Path(name).expanduser()
    if path.is_dir():
        return _from_folder(path, path.resolve().name, "", f"folder {path.name}")
    if path.is_file():
        return _from_gguf(path)
    if name.startswith((".", "/", "~")) or name.endswith(".gguf"):
        raise ModelError(f"{path}: no such model", hint="check [model] base")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        found = hub.fetch(name)
        return _from_folder(found.path, name, found.license, f"hub {name}@{found.commit}")
    known = nearest(name, carried.MODELS, words="carried", cutoff=0.4)
    raise ModelError(
        f"unknown base model {name!r}",
        hint=f"{known}; else give a folder, a .gguf file, or OWNER/NAME on the hub",
    )


def _from_folder(path: Path, name: str, license: str, source: str) -> BaseModel:
    folder.check(path)
    digest = cached_digest(path)
    return BaseModel(name=name, path=path, digest=digest, license=license, source=source)


def _from_gguf(path: Path) -> BaseModel:
    header = read_header(path)
    sha256 = cached_digest(path)
    place = _place(path.stem, sha256)
    build_once(place, lambda draft: dequantize(path, draft))
    license = str(header.metadata.get("general.license", ""))
    return _from_folder(place, path.stem, license, f"GGUF {path.name} sha256 {sha256}")


def _from_carried(name: str) -> BaseModel:
    model = carried.MODELS[name]
    place = _place(name, model.sha256)
    build_once(place, lambda draft: carried.fill(name, draft))
    wheel = model.wheels[0]
    source = f"package {wheel.name} {wheel.version}, GGUF sha256 {model.sha256}"
    return _from_folder(place, name, wheel.license, source)


def _place(name: str, sha256: str) -> Path:
    return home() / "models" / f"{name}-{sha256[:16]}-{DEQUANTIZER}"
