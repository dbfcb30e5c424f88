"""The command, and the groups of its verbs."""

from __future__ import annotations

import click

from residency import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="residency")
def main() -> None:
    """Move language-model work from an API onto a small model that you train, own and run."""


for _name, _help in {
    "data": "The data set: build it, check a file, see what is learnt.",
    "release": "What the gate has let out.",
    "keys": "The keys of the endpoint: who may ask it, and how much.",
    "traffic": "The record of what was asked and answered.",
    "watch": "Whether what is served is still good.",
}.items():
    main.add_command(click.Group(_name, help=_help))
