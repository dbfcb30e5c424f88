"""From logs and settings to a release."""

from __future__ import annotations

from pathlib import Path

import click
from click import argument, option

from residency.cli.root import data, main, traffic
from residency.cli.verb import verb


@verb(
    main,
    "init",
    "workspace.init",
    argument("directory", type=click.Path(path_type=Path), default="."),
    option("--recipe", default="clinic-desk", show_default=True, help="Shipped recipe."),
)
def _init() -> None:
    """Make a workspace in DIRECTORY: settings and data of a shipped recipe, ready to run."""


_TRAINING = (
    option(
        "--method",
        type=click.Choice(["lora", "qlora", "full", "distill", "scratch"]),
        help="Instead of train.method.",
    ),
    option("--rank", type=click.IntRange(min=1), help="Instead of train.rank."),
    option(
        "--epochs", type=click.FloatRange(min=0, min_open=True), help="Instead of train.epochs."
    ),
    option(
        "--learning-rate",
        type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
        help="Instead of train.learning_rate.",
    ),
)


@verb(main, "run", "chain.run", argument("stage", required=False), *_TRAINING)
def _run() -> None:
    """Run the chain data, train, export, gate, or up to STAGE; what is unchanged is not redone."""


@verb(
    data,
    "build",
    "loop.build",
    option(
        "--from",
        "source",
        type=click.Choice(["file", "traffic"]),
        default="file",
        show_default=True,
        help="Take in what was served and corrected, too.",
    ),
    option("--unrated", is_flag=True, help="With traffic: an API's answers nobody rated, too."),
)
def _data_build() -> None:
    """Make the data set: checked, without duplicates, split."""


@verb(
    data,
    "review",
    "loop.review",
    argument("file", type=click.Path(path_type=Path), required=False),
    option(
        "--count",
        type=click.IntRange(min=1),
        default=50,
        show_default=True,
        help="Cases to write at most.",
    ),
)
def _data_review() -> None:
    """Write the served cases that are most worth a label, or read the labels of FILE in."""


@verb(data, "check", "data.check", argument("file", type=click.Path(path_type=Path)))
def _data_check() -> None:
    """Read FILE as training data and say what is in it."""


@verb(data, "label", "data.label")
def _data_label() -> None:
    """Have the teacher of [train.teacher] answer the rows that have no answer."""


@verb(
    data,
    "preview",
    "data.preview",
    option("--count", default=3, show_default=True, help="Samples to show."),
)
def _data_preview() -> None:
    """Show samples as the model sees them, with the learnt tokens marked."""


@verb(main, "train", "chain.train", *_TRAINING)
def _train() -> None:
    """Fine-tune the base model on the data set, or train one another way."""


@verb(main, "export", "chain.export")
def _export() -> None:
    """Merge the adapter and make GGUF builds."""


@verb(main, "gate", "chain.gate")
def _gate() -> None:
    """Compare base, specialist and builds on held-out work; release the smallest that passes."""


@verb(
    main,
    "compare",
    "compare.compare",
    argument("first"),
    argument("second"),
    option("--model", "models", multiple=True, help="Of an endpoint; once for each, in order."),
    option("--key-variable", "key_variables", multiple=True, help="Holds the key of an endpoint."),
    option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=120.0,
        show_default=True,
        help="Seconds that an endpoint has for an answer.",
    ),
    option("--file", type=click.Path(path_type=Path), help="Cases, instead of the test split."),
)
def _compare() -> None:
    """Ask FIRST and SECOND the same: builds, releases, URLs of OpenAI's API, or api for gate.api.

    Exit code 2 says that SECOND is worse, with 95% certainty.
    """


@verb(
    main,
    "decide",
    "decide.decide",
    option("--answers", type=click.Path(path_type=Path), help="TOML; asked on a terminal without."),
    option("--memo", type=click.Path(path_type=Path), help="Instead of reports/decision.html."),
    option("--prices", type=click.Path(path_type=Path), help="Your copy of the price table."),
    option("--compare", is_flag=True, help="The last prediction with what was logged since."),
)
def _decide() -> None:
    """Say whether the work should move to a small model, how, and what that saves."""


@verb(
    traffic,
    "import",
    "traffic.import_files",
    argument("files", type=click.Path(path_type=Path), nargs=-1, required=True),
    option("--map", "mapping", multiple=True, help="field=column of a CSV; may be repeated."),
)
def _traffic_import() -> None:
    """Bring the calls that FILES have logged into the record; a call that is there is left out."""


@verb(
    traffic,
    "report",
    "traffic.report_on",
    option("--tag", default="", help="Report by the values of this tag of the calls."),
    option("--since", default="", help="Calls from this day on, as 2027-01-31 (UTC)."),
)
def _traffic_report() -> None:
    """Say what the recorded calls ask, in categories, and write it as a page."""


@verb(traffic, "erase", "traffic.erase", argument("subject"))
def _traffic_erase() -> None:
    """Remove every exchange about SUBJECT (the `user` of its requests), for good."""
