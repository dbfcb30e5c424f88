"""Every verb: its name, what it calls, what it is for, and its options."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click
from click import argument, option

from residency.cli.verb import verb
from residency.types import Level, Method

_FILE = click.Path(path_type=Path)
_COUNT = click.IntRange(min=1)
_MORE_THAN_NOTHING = click.FloatRange(min=0, min_open=True)

# From logs and settings to a release.

verb(
    "init",
    "workspace.init",
    "Make a workspace in DIRECTORY: settings and data of a shipped recipe, ready to run.",
    argument("directory", type=_FILE, default="."),
    option("--recipe", default="clinic-desk", show_default=True, help="Shipped recipe."),
)

_TRAINING = (
    option("--method", type=click.Choice(get_args(Method)), help="Instead of train.method."),
    option("--rank", type=_COUNT, help="Instead of train.rank."),
    option("--epochs", type=_MORE_THAN_NOTHING, help="Instead of train.epochs."),
    option(
        "--learning-rate",
        type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
        help="Instead of train.learning_rate.",
    ),
)

verb(
    "run",
    "chain.run",
    "Run the chain data, train, export, gate, or up to STAGE; what is unchanged is not redone.",
    argument("stage", required=False),
    *_TRAINING,
)

verb(
    "data build",
    "loop.build",
    "Make the data set: checked, without duplicates, split.",
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

verb(
    "data review",
    "loop.review",
    "Write the served cases that are most worth a label, or read the labels of FILE in.",
    argument("file", type=_FILE, required=False),
    option(
        "--count",
        type=_COUNT,
        default=50,
        show_default=True,
        help="Cases to write at most.",
    ),
)

verb(
    "data check",
    "data.check",
    "Read FILE as training data and say what is in it.",
    argument("file", type=_FILE),
)

verb(
    "data label",
    "data.label",
    "Have the teacher of [train.teacher] answer the rows that have no answer.",
)

verb(
    "data preview",
    "data.preview",
    "Show samples as the model sees them, with the learnt tokens marked.",
    option("--count", default=3, show_default=True, help="Samples to show."),
)

verb(
    "train",
    "chain.run",
    "Fine-tune the base model on the data set, or train one another way.",
    *_TRAINING,
    stage="train",
)

verb("export", "chain.run", "Merge the adapter and make GGUF builds.", stage="export")

verb(
    "gate",
    "chain.run",
    "Compare base, specialist and builds on held-out work; release the smallest that passes.",
    stage="gate",
)

verb(
    "compare",
    "compare.compare",
    """Ask FIRST and SECOND the same: builds, releases, URLs of OpenAI's API, or api for gate.api.

    Exit code 2 says that SECOND is worse, with 95% certainty.
    """,
    argument("first"),
    argument("second"),
    option("--model", "models", multiple=True, help="Of an endpoint; once for each, in order."),
    option("--key-variable", "key_variables", multiple=True, help="Holds the key of an endpoint."),
    option(
        "--timeout",
        type=_MORE_THAN_NOTHING,
        default=120.0,
        show_default=True,
        help="Seconds that an endpoint has for an answer.",
    ),
    option("--file", type=_FILE, help="Cases, instead of the test split."),
)

verb(
    "decide",
    "decide.decide",
    "Say whether the work should move to a small model, how, and what that saves.",
    option("--answers", type=_FILE, help="TOML; asked on a terminal without."),
    option("--memo", type=_FILE, help="Instead of reports/decision.html."),
    option("--prices", type=_FILE, help="Your copy of the price table."),
    option("--compare", is_flag=True, help="The last prediction with what was logged since."),
)

verb(
    "traffic import",
    "traffic.import_files",
    "Bring the calls that FILES have logged into the record; a call that is there is left out.",
    argument("files", type=_FILE, nargs=-1, required=True),
    option("--map", "mapping", multiple=True, help="field=column of a CSV; may be repeated."),
)

verb(
    "traffic report",
    "traffic.report_on",
    "Say what the recorded calls ask, in categories, and write it as a page.",
    option("--tag", default="", help="Report by the values of this tag of the calls."),
    option("--since", default="", help="Calls from this day on, as 2027-01-31 (UTC)."),
)

verb(
    "traffic erase",
    "traffic.erase",
    "Remove every exchange about SUBJECT (the `user` of its requests), for good.",
    argument("subject"),
)

# Base models, engines, and the inside of a model.

verb(
    "pull",
    "models.pull",
    "Fetch MODEL: a carried model, a folder, a GGUF file, or a name on the Hugging Face hub.",
    argument("model"),
)

verb(
    "fit",
    "fit.fit",
    "Say whether MODEL fits in memory: a carried model, a folder, a GGUF file, or a size as 7B.",
    argument("model"),
    option("--context", type=_COUNT, help="Tokens of an answer or a training row."),
    option("--parallel", type=_COUNT, default=1, show_default=True, help="Answers."),
    option("--level", type=click.Choice(["f16", *get_args(Level)]), help="Of its weights."),
    option("--train", type=click.Choice(["lora", "qlora", "full"]), help="Train it, not ask it."),
    option("--rank", type=_COUNT, default=16, show_default=True, help="LoRA's."),
    option("--batch", type=_COUNT, default=4, show_default=True, help="Training rows."),
)

verb(
    "explain",
    "explain.explain",
    "Show what happens inside the model while it reads TEXT, on a page that opens offline.",
    argument("text", default=""),
    option("--model", default="", help="A base model, folder or GGUF, not the workspace's own."),
    option("--examples", is_flag=True, help="Our own sentences instead of TEXT."),
    option("--exchange", default="", help="A recorded exchange, by its id, instead of TEXT."),
)

verb(
    "setup",
    "setup.setup",
    "Install NAME, a heavy engine or tool that --list names, into an environment of its own.",
    argument("name", default=""),
    option("--list", "listed", is_flag=True, help="Say what there is, and what is ready."),
)

# What a release was made from, and which one is served.

verb(
    "lineage",
    "provenance.lineage",
    "Say from which bytes release NAME (or the current one) was made.",
    argument("name", default=""),
)

verb(
    "gc",
    "provenance.gc",
    "Free what no release needs, after asking.",
    option("--yes", is_flag=True, help="Do not ask before deleting."),
)

verb(
    "release list", "provenance.list_releases", "All releases, with the one that is served marked."
)

verb(
    "release show",
    "provenance.show",
    "One release (or the current one) and the verdict that let it out.",
    argument("name", default=""),
)

verb(
    "release promote",
    "provenance.promote",
    "Make release NAME the one that is served.",
    argument("name"),
)

verb(
    "release rollback",
    "provenance.rollback",
    "Serve the release that was served before the current one.",
)

verb(
    "release verify",
    "provenance.verify",
    "Check the files of release NAME (or the current one), and with --key its signature.",
    argument("name", default=""),
    option("--key", type=_FILE, help="PEM: whose pair must have signed it."),
)

verb(
    "audit",
    "provenance.audit_log",
    "Print the log of administrative acts, after checking that it is whole.",
)

# The endpoint: asked, guarded and watched.

verb(
    "serve",
    "serving.serve",
    "Serve the release over HTTP, as OpenAI's API does.",
    option("--release", "name", default="", help="Release; the current one if not given."),
    option("--port", type=int, default=None, help="Instead of serve.port; 0 takes a free one."),
)

verb(
    "ask",
    "serving.ask",
    "Ask the release one question, through the running endpoint or one of its own.",
    argument("text"),
    option("--stream", is_flag=True, help="Show the answer on stderr as it comes."),
)

verb("chat", "serving.chat", "Talk to the release.")

verb(
    "keys add",
    "keys.add",
    "Make a key called NAME and show it, this once. What is not given is not limited.",
    argument("name"),
    option("--model", "models", multiple=True, help="Allow this model only; may be repeated."),
    option("--requests", type=_COUNT, help="Requests a minute."),
    option("--tokens", type=_COUNT, help="Tokens a minute, asked and answered."),
    option("--budget", type=click.FloatRange(min=0), help="Money a calendar month (UTC)."),
    option("--timeout", type=_MORE_THAN_NOTHING, help="Seconds for an answer."),
    option("--expires", default="", help="A day as 2027-01-31 (UTC), or days from now as 30d."),
    option("--never-leave", is_flag=True, help="Keep what it sends on this machine."),
)

verb("keys list", "keys.list_keys", "All keys and what they allow.")

verb(
    "keys revoke",
    "keys.revoke",
    "End key NAME: the running endpoint refuses it at once.",
    argument("name"),
)

verb(
    "top",
    "watching.top",
    "Show what the running gateway does, or the record of calls where none runs.",
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

verb(
    "watch report",
    "watching.report",
    "Report on the recorded calls, and on what has moved since before, as a page.",
    option("--since", default="7d", show_default=True, help="So long ago, or a day as 2027-01-31."),
)

verb(
    "watch rules",
    "prometheus.write",
    "Write the rules for Prometheus and the dashboard for Grafana into FOLDER.",
    argument("folder", type=click.Path(path_type=Path, file_okay=False)),
)
