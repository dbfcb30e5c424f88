"""What a teacher answered and what it cost, in one file that only grows.

Before a request goes out, the most that it can cost is written down; afterwards, in one line, what
it did cost and its answer. So a kill at any moment loses no answer that came, and what was under
way then counts as spent in full.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from residency.errors import RefusedError, StorageError
from residency.store import storage_errors, whole_lines

UNITS = 10**9
"""Money is counted in whole billionths: sums of floats would drift past a limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """One answer of a teacher. `refused` says why there is none."""

    text: str = ""
    finish_reason: str = ""
    refused: str = ""


class Journal:
    """The journal `path`, for one process. `budget` is the money for all that it has and will
    have; None sets no limit."""

    def __init__(self, path: Path, budget: float | None) -> None:
        self.answers: dict[str, Answered] = {}
        self._limit = math.inf if budget is None else math.floor(budget * UNITS)
        self._spent = 0
        self._held: dict[str, int] = {}
        self._settled = asyncio.Condition()
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._read(path)
            self._file = path.open("a", encoding="utf-8")
        # What an earlier process had under way may have been billed.
        self._spent += sum(self._held.values())
        self._held.clear()

    def close(self) -> None:
        self._file.close()

    @property
    def spent(self) -> float:
        """The money that is gone, or may be."""
        return self._spent / UNITS

    async def reserve(self, key: str, most: float) -> None:
        """Set `most` aside for the request `key`, once what others under way leave allows it.

        Raises `RefusedError` when even then it would not fit in the budget.
        """
        wanted = math.ceil(most * UNITS)
        async with self._settled:
            while self._spent + sum(self._held.values()) + wanted > self._limit:
                if not self._held:
                    raise RefusedError(
                        f"the teacher's budget is {self._limit / UNITS:g}, {self.spent:g} of it is "
                        f"spent, and the next answer may cost {most:g}",
                        hint="raise budget in [train.teacher] and run again: every answer is kept; "
                        "or lower its max_tokens, or take prompts out of the file",
                    )
                await self._settled.wait()
            self._held[key] = wanted
            self._write({"key": key, "held": wanted})

    async def settle(self, key: str, cost: float, answer: Answered | None = None) -> None:
        """Write down what the request `key` did cost, with its answer if one came."""
        async with self._settled:
            self._held.pop(key)
            units = math.ceil(cost * UNITS)
            self._spent += units
            line: dict[str, Any] = {"key": key, "cost": units}
            if answer is not None:
                self.answers[key] = answer
                line["answer"] = asdict(answer)
            self._write(line)
            self._settled.notify_all()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, path: Path) -> None:
        try:
            for text in whole_lines(path):
                line = json.loads(text)
                # Held twice: a kill came between, and the first may have been billed.
                self._spent += self._held.pop(line["key"], 0) if "held" in line else 0
                if "held" in line:
                    self._held[line["key"]] = int(line["held"])
                    continue
                del self._held[line["key"]]
                self._spent += int(line["cost"])
                if "answer" in line:
                    self.answers[line["key"]] = Answered(**line["answer"])
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"{path}: damaged answers of a teacher ({error})",
                hint="mend its last lines; deleting it loses answers that were paid for",
            ) from error
