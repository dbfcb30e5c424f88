"""How a verb is registered, called, and how it answers."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from residency.cli.root import main
from residency.errors import ResidencyError
from residency.progress import say

_OF_ALL = (
    click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout."),
    click.option(
        "--workspace",
        type=click.Path(file_okay=False, path_type=Path),
        default=".",
        show_default=True,
        help="Folder with residency.toml.",
    ),
)


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


def verb(path: str, target: str, help: str, *params: Callable[..., Any], **fixed: Any) -> None:
    """Register the verb `path` ("data build" is `build` of the group `data`), which calls `target`
    (`module.function` in `residency.verbs`) with the values of its click options `params`, and with
    those that are `fixed`."""
    module, function = target.split(".")
    *groups, name = path.split()

    def body(as_json: bool, workspace: Path, **values: Any) -> None:
        try:
            _call(module, function, as_json, {"workspace": workspace, **fixed, **values})
        except ResidencyError as error:
            _fail(error.message, error.hint, error.exit_code, as_json)
        except KeyboardInterrupt:
            # One that passed through an exec of text (as dataclasses and namedtuples do) would have
            # Python end by SIGINT instead of our exit code; its next such call forgets that
            # (run_eval_code_obj in CPython's Python/pythonrun.c).
            eval("None")
            _fail("interrupted", "run it again: what was done is kept", 130, as_json)
        except BrokenPipeError:
            sys.exit(1)
        except Exception:
            say(traceback.format_exc())
            _fail("a fault of ours", "please report it with the lines above", 1, as_json)

    decorated: Callable[..., Any] = body
    for param in reversed((*params, *_OF_ALL)):
        decorated = param(decorated)
    group = main.commands[groups[0]] if groups else main
    assert isinstance(group, click.Group)
    group.command(name, help=help)(decorated)
