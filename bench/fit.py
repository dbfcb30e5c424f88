"""Memory that `residency fit` predicts against what llama.cpp takes, its context filled.

    python bench/fit.py [--model NAME] [--levels Q8_0 Q4_K_M] [--contexts 512 2048 8192]

Prints resident memory at rest and at its highest, in MB, and the prediction's error in percent.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Any

from residency.config import DEFAULT_BASE, Level
from residency.engines.base import Engine, EngineSpec
from residency.engines.client import EngineClient
from residency.engines.llama_cpp import LlamaCpp
from residency.export.convert import convert
from residency.export.quantize import open_source, quantize
from residency.models.base import resolve
from residency.models.memory import need
from residency.models.shape import read_shape

ALIAS = "bench"
SLOTS = (1, 4)
MOST = 8192  # tokens of all slots together: more take minutes to fill on two cores


async def _fill(client: EngineClient, context: int, slots: int) -> None:
    """Ask every slot at once, with a prompt that leaves little of its context."""
    bodies = (
        {
            "model": ALIAS,
            "messages": [{"role": "user", "content": f"{slot} " + "word " * (context - 100)}],
            "max_tokens": 16,
            "ignore_eos": True,
        }
        for slot in range(slots)
    )
    await asyncio.gather(*(client.chat(body) for body in bodies))
    await client.close()


def _measure(model: Path, context: int, slots: int) -> tuple[int, int]:
    engine: Engine = LlamaCpp(
        EngineSpec(model=model, alias=ALIAS, context=context, slots=slots, threads=2)
    )
    with engine:
        at_rest = engine.memory()
        asyncio.run(_fill(engine.client(timeout=900), context, slots))
        return at_rest, engine.peak_memory()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_BASE)
    parser.add_argument("--levels", nargs="+", default=["Q8_0", "Q4_K_M"])
    parser.add_argument("--contexts", nargs="+", type=int, default=[512, 2048, 8192])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "f16.gguf"
        convert(resolve(options.model).path, source, ALIAS)
        reader = open_source(source)
        print("level    context  slots  at rest  highest  predicted  error")
        for level in options.levels:
            _level(reader, Path(folder) / f"{level}.gguf", level, options)


def _level(reader: Any, target: Path, level: Level, options: argparse.Namespace) -> None:
    quantize(reader, target, level)
    shape = read_shape(options.model)
    for context in options.contexts:
        for slots in SLOTS:
            if context * slots > MOST:
                continue
            at_rest, highest = _measure(target, context, slots)
            total = need(shape, level=level, context=context, slots=slots).total
            error = 100 * (total / highest - 1)
            print(
                f"{level:8} {context:7} {slots:6} {at_rest / 1e6:8.1f} {highest / 1e6:8.1f} "
                f"{total / 1e6:10.1f} {error:+5.1f}%",
                flush=True,
            )


if __name__ == "__main__":
    main()
