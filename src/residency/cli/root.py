"""The command, and the groups of its verbs."""

from __future__ import annotations

import click

from residency import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="residency")
def main() -> None:
    """Move language-model work from an API onto a small model that you train, own and run."""


@main.group()
def data() -> None:
    """The data set: build it, check a file, see what is learnt."""


@main.group()
def release() -> None:
    """What the gate has let out."""


@main.group()
def keys() -> None:
    """The keys of the endpoint: who may ask it, and how much."""


@main.group()
def traffic() -> None:
    """The record of what was asked and answered."""


@main.group()
def watch() -> None:
    """Whether what is served is still good."""
