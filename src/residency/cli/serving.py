"""The endpoint: asked, guarded and watched."""

from __future__ import annotations

from pathlib import Path

import click
from click import argument, option

from residency.cli.root import keys, main, watch
from residency.cli.verb import verb


@verb(
    main,
    "serve",
    "serving.serve",
    option("--release", "name", default="", help="Release; the current one if not given."),
    option("--port", type=int, default=None, help="Instead of serve.port; 0 takes a free one."),
)
def _serve() -> None:
    """Serve the release over HTTP, as OpenAI's API does."""


@verb(
    main,
    "ask",
    "serving.ask",
    argument("text"),
    option("--stream", is_flag=True, help="Show the answer on stderr as it comes."),
)
def _ask() -> None:
    """Ask the release one question, through the running endpoint or one of its own."""


@verb(main, "chat", "serving.chat")
def _chat() -> None:
    """Talk to the release."""


@verb(
    keys,
    "add",
    "keys.add",
    argument("name"),
    option("--model", "models", multiple=True, help="Allow this model only; may be repeated."),
    option("--requests", type=click.IntRange(min=1), help="Requests a minute."),
    option("--tokens", type=click.IntRange(min=1), help="Tokens a minute, asked and answered."),
    option("--budget", type=click.FloatRange(min=0), help="Money a calendar month (UTC)."),
    option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds for an answer."),
    option("--expires", default="", help="A day as 2027-01-31 (UTC), or days from now as 30d."),
    option("--never-leave", is_flag=True, help="Keep what it sends on this machine."),
)
def _keys_add() -> None:
    """Make a key called NAME and show it, this once. What is not given is not limited."""


@verb(keys, "list", "keys.list_keys")
def _keys_list() -> None:
    """All keys and what they allow."""


@verb(keys, "revoke", "keys.revoke", argument("name"))
def _keys_revoke() -> None:
    """End key NAME: the running endpoint refuses it at once."""


@verb(
    main,
    "top",
    "watching.top",
    option("--once", is_flag=True, help="Show one frame and end."),
    option(
        "--seconds",
        type=click.FloatRange(min=0.2),
        default=2.0,
        show_default=True,
        help="From one frame to the next.",
    ),
    option("--url", default="", help="Of the gateway, if not this workspace's."),
)
def _top() -> None:
    """Show what the running gateway does, or the record of calls where none runs."""


@verb(
    watch,
    "report",
    "watching.report",
    option("--since", default="7d", show_default=True, help="So long ago, or a day as 2027-01-31."),
)
def _watch_report() -> None:
    """Report on the recorded calls, and on what has moved since before, as a page."""


@verb(
    watch,
    "rules",
    "prometheus.write",
    argument("folder", type=click.Path(path_type=Path, file_okay=False)),
)
def _watch_rules() -> None:
    """Write the rules for Prometheus and the dashboard for Grafana into FOLDER."""
