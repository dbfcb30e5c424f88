"""Workspaces: a folder with `residency.toml`, its data, and the store."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

from residency import config
from residency.cli import Result
from residency.errors import InputError
from residency.store import storage_errors, write_atomic

RECIPES = Path(__file__).parent.parent / "recipes"


def init(workspace: Path, directory: Path, recipe: str) -> Result:
    """Copy a shipped recipe into `directory`; what stands there already is never overwritten."""
    source = RECIPES / f"{recipe}.toml"
    if not source.is_file():
        known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.toml")))
        raise InputError(f"no recipe is called {recipe}", hint=f"there are: {known}")
    target = workspace / directory
    if (target / config.FILE_NAME).exists():
        raise InputError(
            f"{target / config.FILE_NAME}: there already", hint="choose another folder"
        )
    text = source.read_text(encoding="utf-8")
    data = config.parse(text, str(source)).data.file
    with storage_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        if not (target / data).exists():
            _put_data(recipe, target / data)
        write_atomic(target / config.FILE_NAME, text)
    return Result(
        data={"workspace": str(target), "recipe": recipe, "data": str(target / data)},
        text=f"{target}: {config.FILE_NAME} and {data}\nnext: residency run --workspace {target}",
    )


def _put_data(recipe: str, target: Path) -> None:
    """Copy the recipe's data, or have the script beside it make them."""
    maker = RECIPES / f"{recipe}.py"
    if maker.exists():
        write_atomic(target, runpy.run_path(str(maker))["data"]())
    else:
        shutil.copyfile(RECIPES / target.name, target)
