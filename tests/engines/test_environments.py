"""A real environment of its own, with a package made here in place of a heavy engine."""

from __future__ import annotations

import dataclasses
import subprocess
import zipfile
from pathlib import Path

import pytest

from residency.engines import environments
from residency.engines.environments import Environment, install, python
from residency.errors import MissingError


def wheel(folder: Path, name: str) -> None:
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        info = f"{name}-1.0.dist-info"
        file.writestr(f"{name}.py", "found = 1\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setenv("RESIDENCY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    for name in ("heavyengine", "unwantedpart"):
        wheel(tmp_path, name)
    return Environment(
        name="heavy",
        packages=("heavyengine==1.0", "unwantedpart"),
        unwanted=("unwantedpart",),
        test="heavyengine",
        size=1_000_000,
    )


def imports(environment: Environment, module: str) -> bool:
    return (
        subprocess.run([python(environment), "-c", f"import {module}"], check=False).returncode == 0
    )


def test_made_once_and_only_ready_at_the_end(
    environment: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = dataclasses.replace(environment, packages=("nosuchpackage",))
    with pytest.raises(MissingError, match="No matching distribution found for nosuchpackage"):
        install(absent)
    broken = dataclasses.replace(environment, test="nosuchmodule")
    with pytest.raises(MissingError, match="No module named 'nosuchmodule'"):
        install(broken)
    with pytest.raises(MissingError) as caught:
        python(environment)
    assert caught.value.hint == "install it with: residency setup heavy"
    place = install(environment)
    assert imports(environment, "heavyengine")
    assert not imports(environment, "unwantedpart")
    assert "heavy: trying it" in capsys.readouterr().err
    assert install(environment) == place
    assert capsys.readouterr().err == ""
    newer = dataclasses.replace(environment, packages=("heavyengine==2.0",))
    assert not newer.ready
    assert not dataclasses.replace(environment, source="llamasource==2.0").ready


def test_what_is_built_from_source_says_why_it_was_not(environment: Environment) -> None:
    built = dataclasses.replace(environment, source="nosuchsource==1.0")
    with pytest.raises(MissingError, match="No matching distribution found for nosuchsource"):
        install(built)
    assert not built.ready


def test_all_environments_go_by_their_names() -> None:
    assert all(name == one.name for name, one in environments.ENVIRONMENTS.items())
