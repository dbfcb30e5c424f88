"""What a release was made from, and which one is served."""

from __future__ import annotations

from pathlib import Path

import click
from click import argument, option

from residency.cli.root import main, release
from residency.cli.verb import verb


@verb(main, "lineage", "provenance.lineage", argument("name", default=""))
def _lineage() -> None:
    """Say from which bytes release NAME (or the current one) was made."""


@verb(
    main, "gc", "provenance.gc", option("--yes", is_flag=True, help="Do not ask before deleting.")
)
def _gc() -> None:
    """Free what no release needs, after asking."""


@verb(release, "list", "provenance.list_releases")
def _release_list() -> None:
    """All releases, with the one that is served marked."""


@verb(release, "show", "provenance.show", argument("name", default=""))
def _release_show() -> None:
    """One release (or the current one) and the verdict that let it out."""


@verb(release, "promote", "provenance.promote", argument("name"))
def _release_promote() -> None:
    """Make release NAME the one that is served."""


@verb(release, "rollback", "provenance.rollback")
def _release_rollback() -> None:
    """Serve the release that was served before the current one."""


@verb(
    release,
    "verify",
    "provenance.verify",
    argument("name", default=""),
    option("--key", type=click.Path(path_type=Path), help="PEM: whose pair must have signed it."),
)
def _release_verify() -> None:
    """Check the files of release NAME (or the current one), and with --key its signature."""


@verb(main, "audit", "provenance.audit_log")
def _audit() -> None:
    """Print the log of administrative acts, after checking that it is whole."""
