"""`serve` as a process, for tests of its life: `python -m tests.serve.server_main MODEL JSON`.

The JSON may set `serve` and `digest`. Says on stdout where it serves.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from residency.config import EngineSettings, ServeSettings
from residency.errors import ResidencyError
from residency.serve.run import serve
from tests.serve.releases import release


def main() -> None:
    model, given = Path(sys.argv[1]), json.loads(sys.argv[2])
    served = release()
    build = dataclasses.replace(served.build, digest=given.get("digest", ""))
    try:
        serve(
            dataclasses.replace(served, build=build),
            model,
            EngineSettings(slots=2),
            ServeSettings(**given["serve"]),
            ready=lambda url: print(url, flush=True),
        )
    except ResidencyError as error:
        print(f"error: {error.message}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
