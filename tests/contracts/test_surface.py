"""What users and scripts rely on: verbs and their flags, recipes, records, start-up."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from residency import config
from residency.cli import main
from residency.store import read_record
from residency.verbs.workspace import RECIPES

ROOT = Path(__file__).parents[2]
RECORDS = Path(__file__).parent / "records"

VERBS = {
    "ask": ["--json", "--stream", "--workspace", "TEXT"],
    "audit": ["--json", "--workspace"],
    "chat": ["--json", "--workspace"],
    "compare": [
        "--file",
        "--json",
        "--key-variable",
        "--model",
        "--timeout",
        "--workspace",
        "FIRST",
        "SECOND",
    ],
    "data build": ["--from", "--json", "--unrated", "--workspace"],
    "data check": ["--json", "--workspace", "FILE"],
    "data label": ["--json", "--workspace"],
    "data preview": ["--count", "--json", "--workspace"],
    "data review": ["--count", "--json", "--workspace", "FILE"],
    "decide": ["--answers", "--compare", "--json", "--memo", "--prices", "--workspace"],
    "explain": ["--examples", "--exchange", "--json", "--model", "--workspace", "TEXT"],
    "export": ["--json", "--workspace"],
    "fit": [
        "--batch",
        "--context",
        "--json",
        "--level",
        "--parallel",
        "--rank",
        "--train",
        "--workspace",
        "MODEL",
    ],
    "gate": ["--json", "--workspace"],
    "gc": ["--json", "--workspace", "--yes"],
    "init": ["--json", "--recipe", "--workspace", "DIRECTORY"],
    "keys add": [
        "--budget",
        "--expires",
        "--json",
        "--model",
        "--never-leave",
        "--requests",
        "--timeout",
        "--tokens",
        "--workspace",
        "NAME",
    ],
    "keys list": ["--json", "--workspace"],
    "keys revoke": ["--json", "--workspace", "NAME"],
    "lineage": ["--json", "--workspace", "NAME"],
    "pull": ["--json", "--workspace", "MODEL"],
    "release list": ["--json", "--workspace"],
    "release promote": ["--json", "--workspace", "NAME"],
    "release rollback": ["--json", "--workspace"],
    "release show": ["--json", "--workspace", "NAME"],
    "release verify": ["--json", "--key", "--workspace", "NAME"],
    "run": [
        "--epochs",
        "--json",
        "--learning-rate",
        "--method",
        "--rank",
        "--workspace",
        "STAGE",
    ],
    "serve": ["--json", "--port", "--release", "--workspace"],
    "setup": ["--json", "--list", "--workspace", "NAME"],
    "top": ["--json", "--once", "--seconds", "--url", "--workspace"],
    "traffic erase": ["--json", "--workspace", "SUBJECT"],
    "traffic import": ["--json", "--map", "--workspace", "FILES"],
    "traffic report": ["--json", "--since", "--tag", "--workspace"],
    "train": ["--epochs", "--json", "--learning-rate", "--method", "--rank", "--workspace"],
    "watch rules": ["--json", "--workspace", "FOLDER"],
    "watch report": ["--json", "--since", "--workspace"],
}


def commands(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    found = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= commands(command, f"{prefix}{name} ")
        else:
            found[prefix + name] = command
    return found


def flags(command: click.Command) -> list[str]:
    options = sorted(p.opts[0] for p in command.params if isinstance(p, click.Option))
    return options + [p.name.upper() for p in command.params if isinstance(p, click.Argument)]


def test_the_verbs_and_their_flags_are_these() -> None:
    assert {name: flags(c) for name, c in commands(main).items()} == VERBS


def test_every_verb_leads_to_a_function() -> None:
    from importlib import import_module

    source = "".join(p.read_text() for p in (ROOT / "src/residency/cli").glob("*.py"))
    import re

    targets = re.findall(r'"(\w+)\.(\w+)"', source)
    assert len(targets) == len(VERBS)
    for module, function in targets:
        assert callable(getattr(import_module(f"residency.verbs.{module}"), function))


def test_every_verb_is_documented() -> None:
    text = (ROOT / "docs/reference/verbs.md").read_text()
    for name in VERBS:
        assert f"## residency {name}\n" in text


def test_the_reference_is_generated_from_the_code() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "scripts/reference.py", "--check"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stdout + made.stderr


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda p: p.stem)
def test_every_recipe_loads(path: Path) -> None:
    settings = config.parse(path.read_text(), str(path))
    assert (RECIPES / settings.data.file).is_file() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda p: p.stem)
def test_old_records_still_load(path: Path) -> None:
    assert read_record(path).stage == json.loads(path.read_text())["stage"]


def test_start_up_loads_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "numpy", "aiohttp", "uvicorn")
    code = (
        "import sys, residency.cli; from click.testing import CliRunner;"
        "CliRunner().invoke(residency.cli.main, ['--help']);"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
