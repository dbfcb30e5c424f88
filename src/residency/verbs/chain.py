"""The chain and its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from residency import config
from residency.builds import read_build
from residency.cli import Result
from residency.errors import InputError
from residency.pipeline import STAGES, Chain
from residency.types import to_dict


def run(workspace: Path, stage: str | None = None, **training: Any) -> Result:
    """Run the stages up to `stage`; exit code 2 when the gate lets nothing out.

    `training` are settings that override those of `[train]`; None overrides nothing.
    """
    if stage is not None and stage not in STAGES:
        raise InputError(f"no stage is called {stage}", hint=f"there are: {', '.join(STAGES)}")
    settings = config.overridden(config.load(workspace), "train", training)
    chain = Chain(workspace, settings)
    outcomes = chain.run(stage or STAGES[-1])
    data: dict[str, Any] = {
        "stages": [
            {
                "stage": one.stage,
                "cached": one.cached,
                "seconds": one.record.seconds,
                "figures": to_dict(one.record.figures),
                "outputs": to_dict(one.record.outputs),
            }
            for one in outcomes
        ]
    }
    if outcomes[-1].stage != "gate":
        last = outcomes[-1]
        found = "\n".join(f"{k}: {v}" for k, v in to_dict(last.record.figures).items())
        if last.stage == "train":
            data["page"] = str(chain.training_page.resolve())
            found += f"\npage: {data['page']}"
        return Result(data=data, text=found)
    return _verdict(chain, data)


def _verdict(chain: Chain, data: dict[str, Any]) -> Result:
    figures = chain.done("gate").figures
    page = (chain.workspace / "reports" / "report.html").resolve()
    data |= {"release": figures["release"], "page": str(page)}
    lines = [table(figures["rows"]), "", f"verdict: {figures['verdict']}", f"report: {page}"]
    if figures["release"] is not None:
        folder = chain.builds()[figures["release"]].path
        data["model"] = str((folder / read_build(folder).file).resolve())
        lines.append(f"model: {data['model']}")
    code = 0 if figures["release"] is not None else 2
    return Result(data=data, text="\n".join(lines), exit_code=code)


def table(rows: list[dict[str, Any]]) -> str:
    """The gate's rows as a table for a terminal: quality with 95% interval, size and speed."""
    quality = "exact" if "exact" in rows[0]["rates"] else next(iter(rows[0]["rates"]))
    head = ["build", quality, "95%", "size MB", "tokens/s", "p50 ms", "p95 ms", "memory MB", ""]
    body = []
    for row in rows:
        rate, speed = row["rates"][quality], row["speed"]
        body.append(
            [
                row["build"],
                f"{rate['value']:.3f}",
                f"{rate['low']:.2f}-{rate['high']:.2f}",
                f"{row['size'] / 1e6:.0f}",
                f"{speed['tokens_per_second']:.0f}",
                f"{speed['p50'] * 1000:.0f}",
                f"{speed['p95'] * 1000:.0f}",
                f"{speed['memory'] / 1e6:.0f}",
                "" if row["passed"] is None else "passes" if row["passed"] else "fails",
            ]
        )
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i in (0, 8) else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [head, *body]
    )
