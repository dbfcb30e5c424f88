"""Base models, engines, and the inside of a model."""

from __future__ import annotations

import click
from click import argument, option

from residency.cli.root import main
from residency.cli.verb import verb


@verb(main, "pull", "models.pull", argument("model"))
def _pull() -> None:
    """Fetch MODEL: a carried model, a folder, a GGUF file, or a name on the Hugging Face hub."""


# `formats.GGUF`, which a test holds them to; importing it here would slow every verb.
_LEVELS = ("f16", "bf16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M", "Q2_K")


@verb(
    main,
    "fit",
    "fit.fit",
    argument("model"),
    option("--context", type=click.IntRange(min=1), help="Tokens of an answer or a training row."),
    option("--parallel", type=click.IntRange(min=1), default=1, show_default=True, help="Answers."),
    option("--level", type=click.Choice(_LEVELS), help="Of its weights."),
    option("--train", type=click.Choice(["lora", "qlora", "full"]), help="Train it, not ask it."),
    option("--rank", type=click.IntRange(min=1), default=16, show_default=True, help="LoRA's."),
    option(
        "--batch", type=click.IntRange(min=1), default=4, show_default=True, help="Training rows."
    ),
)
def _fit() -> None:
    """Say whether MODEL fits in memory: a carried model, a folder, a GGUF file, or a size as 7B."""


@verb(
    main,
    "explain",
    "explain.explain",
    argument("text", default=""),
    option("--model", default="", help="A base model, folder or GGUF, not the workspace's own."),
    option("--examples", is_flag=True, help="Our own sentences instead of TEXT."),
    option("--exchange", default="", help="A recorded exchange, by its id, instead of TEXT."),
)
def _explain() -> None:
    """Show what happens inside the model while it reads TEXT, on a page that opens offline."""


@verb(
    main,
    "setup",
    "setup.setup",
    argument("name", default=""),
    option("--list", "listed", is_flag=True, help="Say what there is, and what is ready."),
)
def _setup() -> None:
    """Install NAME, a heavy engine, into an environment of its own: vllm."""
