"""`serve` as a process, for tests of its life.

    python -m tests.serve.server_main FOLDER MODEL JSON

makes a workspace in FOLDER whose current release is MODEL. The JSON has the settings of section
[serve], and may have `digest`, `sealed` and those of [watch]. Says on stdout where it serves. At
first it may open few files, as on a system with a low soft limit.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
from pathlib import Path

from residency import releases
from residency.config import DataSettings, EngineSettings, ServeSettings, Settings, WatchSettings
from residency.errors import ResidencyError
from residency.serve.run import serve
from residency.store import Store
from tests.serve.releases import release


def workspace(folder: Path, model: Path, digest: str = "", name: str = "r1") -> None:
    """A workspace with one release more, the current one; `model` is linked, not copied."""
    store = Store(folder)
    served = release(name=name, artifact=f"{name}-artifact")
    where = store.root / "objects" / served.artifact
    where.mkdir(parents=True, exist_ok=True)
    (where / served.build.file).symlink_to(model.resolve())
    build = dataclasses.replace(served.build, digest=digest)
    releases.write(store, dataclasses.replace(served, build=build))
    releases.promote(store, name)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    folder, model, given = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    if not (folder / ".residency" / "releases").exists():
        workspace(folder, model, given.get("digest", ""))
    settings = Settings(
        name="clinic-desk",
        sealed=given.get("sealed", False),
        data=DataSettings(file="none.jsonl"),
        engine=EngineSettings(slots=given.get("slots", 2)),
        serve=ServeSettings(**given["serve"]),
        watch=WatchSettings(**given.get("watch", {})),
    )
    try:
        serve(folder, settings, ready=lambda url: print(url, flush=True))
    except ResidencyError as error:
        print(f"error: {error.message}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
