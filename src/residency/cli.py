"""The verbs: thin shells over `residency.verbs`, whose modules load when they are called."""

from __future__ import annotations

import functools
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from residency import __version__
from residency.errors import ResidencyError
from residency.progress import say


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a verb answers: `data` for `--json`, `text` for people, and the exit code."""

    data: dict[str, Any]
    text: str
    exit_code: int = 0


def _call(module: str, function: str, as_json: bool, values: dict[str, Any]) -> None:
    verb = getattr(import_module(f"residency.verbs.{module}"), function)
    result: Result = verb(**values)
    click.echo(json.dumps(result.data, ensure_ascii=False) if as_json else result.text)
    sys.exit(result.exit_code)


def _fail(message: str, hint: str, code: int, as_json: bool) -> None:
    say(f"error: {message}" + (f"\nhint: {hint}" if hint else ""))
    if as_json:
        click.echo(json.dumps({"error": message, "hint": hint, "exit_code": code}))
    sys.exit(code)


def verb(
    group: click.Group, name: str, target: str, *params: Callable[..., Any]
) -> Callable[[Callable[..., None]], click.Command]:
    """Register a verb that calls `target` (`module.function` in `residency.verbs`).

    The decorated function only carries the help text; `params` are its click options.
    """
    module, function = target.split(".")

    def register(described: Callable[..., None]) -> click.Command:
        def body(as_json: bool, workspace: Path, **values: Any) -> None:
            try:
                _call(module, function, as_json, {"workspace": workspace, **values})
            except ResidencyError as error:
                _fail(error.message, error.hint, error.exit_code, as_json)
            except KeyboardInterrupt:
                _fail("interrupted", "run it again: what was done is kept", 130, as_json)
            except BrokenPipeError:
                sys.exit(1)
            except Exception:
                say(traceback.format_exc())
                _fail("a fault of ours", "please report it with the lines above", 1, as_json)

        wrapped = functools.update_wrapper(body, described)
        decorated = click.option(
            "--json", "as_json", is_flag=True, help="One JSON object on stdout."
        )(
            click.option(
                "--workspace",
                type=click.Path(file_okay=False, path_type=Path),
                default=".",
                show_default=True,
                help="Folder with residency.toml.",
            )(wrapped)
        )
        for param in reversed(params):
            decorated = param(decorated)
        return group.command(name)(decorated)

    return register


argument, option = click.argument, click.option


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


@verb(
    main,
    "init",
    "workspace.init",
    argument("directory", type=click.Path(path_type=Path), default="."),
    option("--recipe", default="clinic-desk", show_default=True, help="Shipped recipe."),
)
def _init() -> None:
    """Make a workspace in DIRECTORY: settings and data of a shipped recipe, ready to run."""


@verb(main, "run", "chain.run", argument("stage", required=False))
def _run() -> None:
    """Run the chain data, train, export, gate, or up to STAGE; what is unchanged is not redone."""


@verb(data, "build", "chain.build")
def _data_build() -> None:
    """Make the data set: checked, without duplicates, split."""


@verb(data, "check", "data.check", argument("file", type=click.Path(path_type=Path)))
def _data_check() -> None:
    """Read FILE as training data and say what is in it."""


@verb(
    data,
    "preview",
    "data.preview",
    option("--count", default=3, show_default=True, help="Samples to show."),
)
def _data_preview() -> None:
    """Show samples as the model sees them, with the learnt tokens marked."""


@verb(main, "train", "chain.train")
def _train() -> None:
    """Fine-tune the base model on the data set."""


@verb(main, "export", "chain.export")
def _export() -> None:
    """Merge the adapter and make GGUF builds."""


@verb(main, "gate", "chain.gate")
def _gate() -> None:
    """Compare base, specialist and builds on held-out work; release the smallest that passes."""


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


@verb(main, "pull", "models.pull", argument("model"))
def _pull() -> None:
    """Fetch MODEL: a carried model, a folder, a GGUF file, or a name on the Hugging Face hub."""


@verb(
    main,
    "fit",
    "fit.fit",
    argument("model"),
    option("--context", type=click.IntRange(min=1), help="Tokens of a slot, or of a training row."),
    option("--slots", type=click.IntRange(min=1), default=1, show_default=True, help="At once."),
    option(
        "--level", type=click.Choice(["f16", "Q8_0", "Q5_K_M", "Q4_K_M"]), help="Of its weights."
    ),
    option("--train", type=click.Choice(["lora", "qlora", "full"]), help="Train it, not ask it."),
)
def _fit() -> None:
    """Say whether MODEL fits in memory: a carried model, a folder, a GGUF file, or a size as 7B."""


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
    main,
    "setup",
    "setup.setup",
    argument("name", default=""),
    option("--list", "listed", is_flag=True, help="Say what there is, and what is ready."),
)
def _setup() -> None:
    """Install NAME, a heavy engine, into an environment of its own: vllm."""


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


@verb(main, "audit", "provenance.audit_log")
def _audit() -> None:
    """Print the log of administrative acts, after checking that it is whole."""


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
