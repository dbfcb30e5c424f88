"""What Prometheus and Grafana need of ours, written where they are."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from residency import store
from residency.cli import Result

FILES = {"prometheus.rules.yml": "rule_files of Prometheus", "grafana.json": "Grafana's import"}


def write(workspace: Path, folder: Path) -> Result:
    """Write the rules and the dashboard into `folder`. Raises `StorageError`."""
    written = {}
    with store.storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, use in FILES.items():
            path = folder / name
            store.write_atomic(path, (files("residency.watch") / name).read_text(encoding="utf-8"))
            written[str(path)] = use
    text = "\n".join(f"{path}: for {use}" for path, use in written.items())
    return Result(data={"files": list(written)}, text=text)
