"""`residency top` beside a gateway that runs."""

import json
import time
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from residency.cli import main
from residency.config import ServeSettings
from residency.serve import keys
from residency.serve.ask import KEY_VARIABLE
from residency.serve.asked import Caller
from residency.serve.keys import KeyRing
from residency.store import Store
from tests.serve.conftest import Served

Serving = Callable[..., Served]


def top(served: Served, *words: str, code: int = 0) -> str:
    (served.folder / "residency.toml").write_text('name = "echo"\n[data]\nfile = "d.jsonl"\n')
    given = ["top", "--once", "--url", served.url, "--workspace", str(served.folder), *words]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == code, result.output
    return result.output


def test_a_frame_shows_what_was_just_asked(serving: Serving) -> None:
    served = serving()
    for _ in range(3):
        served.ask()
    lines = top(served).splitlines()
    assert "gateway, watched since" in lines[0]
    minute = next(line for line in lines if line.split()[:1] == ["1m"])
    assert minute.split()[1] == "3"
    assert any(line.split()[:2] == ["echo", "3"] for line in lines)
    assert max(map(len, lines)) <= 80
    assert json.loads(top(served, "--json"))["windows"]["1m"]["requests"] == 3


def test_it_needs_a_key_that_may_see_all(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serving(settings=ServeSettings(keys=True))
    assert "API key" in top(served, code=1)
    ring = KeyRing(Store(served.folder).root / keys.FILE_NAME)
    token = ring.add(Caller(name="ops"), expires=None, now=time.time())
    monkeypatch.setenv(KEY_VARIABLE, token)
    assert "no alerts" in top(served)
