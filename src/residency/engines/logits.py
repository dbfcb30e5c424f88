"""Logits of a GGUF, all of the vocabulary, from the very llama.cpp that serves.

It runs in a child process (see `residency.engines.logits_host`): nothing that a model file does
to it can take us down.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from residency import hardware
from residency.engines.hosted import SPIN_COUNT, exit_words
from residency.engines.llama_cpp import first_file, reason_in
from residency.errors import EngineError

ROWS = 32
"""Positions that `read` yields at once: 34 MB for a vocabulary of 262,144."""


class Logits:
    """The logits of a GGUF file or a folder of its shards; a context manager, which ends the child.

    `context` is the most tokens that a text may have; `threads` 0 means all usable cores.
    """

    def __init__(self, model: Path, *, context: int, threads: int = 0) -> None:
        self.model = model
        self._context = context
        # A pipe would have to be drained meanwhile.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close
        command = [sys.executable, "-P", "-m", "residency.engines.logits_host"]
        self._process = subprocess.Popen(
            [
                *command,
                str(first_file(model)),
                str(context),
                str(threads or hardware.usable_cores()),
            ],
            env=os.environ | {"GOMP_SPINCOUNT": SPIN_COUNT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def read(self, ids: Sequence[int], first: int = 0) -> Iterator[NDArray[np.float32]]:
        """Logits after each token of `ids` from position `first` on, some rows at a time.

        A text must be read to its end before the next one. Raises `EngineError` with llama.cpp's
        reason where it cannot load the model, dies, or is too old or too new for us.
        """
        if len(ids) > self._context:
            raise EngineError(f"{self.model}: a text of {len(ids)} tokens; {self._context} fit")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            asked = json.dumps({"ids": list(ids), "first": first}).encode() + b"\n"
            self._process.stdin.write(asked)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        head = self._process.stdout.readline()
        if not head:
            raise self._ended()
        columns = json.loads(head)["vocabulary"]
        for start in range(first, len(ids), ROWS):
            rows = min(ROWS, len(ids) - start)
            part = self._process.stdout.read(4 * rows * columns)
            if len(part) < 4 * rows * columns:
                raise self._ended()
            yield np.frombuffer(part, np.float32).reshape(rows, columns)

    def _ended(self) -> EngineError:
        words = exit_words(self._process.wait())
        self._log.seek(0)
        log = self._log.read().decode(errors="replace").splitlines()
        return EngineError(f"{self.model}: no logits: {reason_in(log) or words}")

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
