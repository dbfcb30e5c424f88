"""The process in which a user's own scorer runs: `python -m residency.gate.scorer_host`.

Takes FILE FUNCTION SECONDS; reads one case a line from stdin and answers each with one line. What
the scorer prints goes to stderr. One that takes longer than SECONDS ends the process, and where it
stood is written to stderr by Python's fault handler, which works whatever the scorer holds.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import json
import math
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any


def main(file: str, function: str, seconds: float) -> None:
    """Load the scorer, say so with one line, and score until stdin ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    faulthandler.dump_traceback_later(seconds, exit=True)
    scorer, error = _attempt(file, lambda: _load(file, function))
    print(json.dumps({"error": error}), file=out, flush=True)
    if error:
        return
    for line in sys.stdin:
        case = json.loads(line)
        faulthandler.dump_traceback_later(seconds, exit=True)
        got, error = _attempt(
            file,
            lambda: scorer(case["messages"], case["answer"], case["reference"]),  # noqa: B023
        )
        faulthandler.cancel_dump_traceback_later()
        reply = {"error": error} if error else _checked(got, file, scorer)
        print(json.dumps(reply), file=out, flush=True)


def _load(file: str, function: str) -> Any:
    spec = importlib.util.spec_from_file_location("scorer", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, function)


def _attempt(file: str, work: Callable[[], Any]) -> tuple[Any, str]:
    """What `work` gives, or why it gave nothing: whatever a user's code raises is a result."""
    try:
        return work(), ""
    except SyntaxError as error:
        return None, f"{error.filename}:{error.lineno}: {error.msg}"
    except BaseException as error:
        ours = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
        place = f"{file}:{ours[-1].lineno}" if ours else file
        return None, f"{place}: {type(error).__name__}: {error}"


def _checked(got: Any, file: str, scorer: Any) -> dict[str, Any]:
    scores = got if isinstance(got, dict) else {"score": got}
    if not scores:
        return {"error": f"{file}: it gave no score"}
    for name, value in scores.items():
        number = isinstance(value, int | float) or hasattr(value, "__float__")
        if not number or not 0 <= float(value) <= 1 or math.isnan(float(value)):
            line = getattr(getattr(scorer, "__code__", None), "co_firstlineno", 1)
            said = f"{name} is {value!r}" if isinstance(got, dict) else f"it gave {value!r}"
            return {"error": f"{file}:{line}: {said}, not a number in 0..1"}
    return {"scores": {str(name): float(value) for name, value in scores.items()}}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
