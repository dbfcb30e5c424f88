"""Heavy engines in environments of their own."""

from __future__ import annotations

from pathlib import Path

from residency.cli import Result
from residency.engines.environments import ENVIRONMENTS, install
from residency.errors import InputError


def setup(workspace: Path, name: str, listed: bool) -> Result:
    """Install the environment `name`; or, with `listed` or without a name, say what there is.

    All workspaces share what is installed.
    """
    del workspace
    if name and name not in ENVIRONMENTS:
        known = ", ".join(ENVIRONMENTS)
        raise InputError(f"nothing to set up is called {name}", hint=f"there is: {known}")
    if name and not listed:
        place = install(ENVIRONMENTS[name])
        return Result(data={"name": name, "path": str(place)}, text=f"{name}: ready")
    rows = [
        {"name": one.name, "ready": one.ready, "packages": one.packages, "size": one.size}
        for one in ENVIRONMENTS.values()
    ]
    lines = [
        f"{one.name}: {'ready' if one.ready else 'not installed'}, {', '.join(one.packages)}, "
        f"{one.size / 1e9:.1f} GB"
        for one in ENVIRONMENTS.values()
    ]
    return Result(data={"environments": rows}, text="\n".join(lines))
