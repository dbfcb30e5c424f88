"""The small client against the gateway."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from residency.config import ServeSettings
from residency.errors import EngineError, EngineRejected, InputError
from residency.serve.ask import KEY_VARIABLE, ask, models
from residency.serve.asked import Caller
from residency.serve.keys import FILE_NAME, KeyRing
from residency.store import Store
from tests.engines.processes import eventually
from tests.serve.conftest import Served

Serving = Callable[..., Served]
QUESTION = [{"role": "user", "content": "uno dos 三"}]


def test_it_answers_in_pieces_and_whole(serving: Serving) -> None:
    served = serving()
    assert list(ask(served.url, QUESTION, model="echo")) == ["uno", " dos", " 三"]
    assert list(ask(served.url + "/v1/", QUESTION, model="echo", stream=False)) == ["uno dos 三"]


def test_it_names_the_models(serving: Serving) -> None:
    served = serving()
    assert models(f"127.0.0.1:{served.port}") == ["echo"]


def test_a_key_comes_from_the_environment(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serving(settings=ServeSettings(keys=True))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(EngineRejected, match="a valid API key") as caught:
        models(served.url)
    assert KEY_VARIABLE in caught.value.hint
    ring = KeyRing(Store(served.folder).root / FILE_NAME)
    monkeypatch.setenv(KEY_VARIABLE, ring.add(Caller(name="kim"), expires=None, now=time.time()))
    assert models(served.url) == ["echo"]
    assert "".join(ask(served.url, QUESTION, model="echo")) == "uno dos 三"


def test_leaving_early_stops_the_work(
    serving: Serving, state: Callable[[], dict[str, Any]]
) -> None:
    served = serving("long")
    before = state()["left"]
    with closing(ask(served.url, QUESTION, model="long")) as texts:
        assert next(texts) == "0 "
    assert eventually(lambda: state()["left"] == before + 1)


def test_a_refusal_has_the_endpoints_words(serving: Serving) -> None:
    with pytest.raises(EngineRejected, match="known: echo") as caught:
        list(ask(serving().url, QUESTION, model="other"))
    assert caught.value.status == 404


def test_an_answer_that_breaks_off_is_an_error(serving: Serving) -> None:
    texts = []
    with pytest.raises(EngineError):
        for text in ask(serving("die-mid-stream").url, QUESTION, model="die-mid-stream"):
            texts.append(text)
    assert texts == ["uno", " dos"]


def test_nobody_there() -> None:
    with pytest.raises(InputError, match="nothing answers") as caught:
        models("http://127.0.0.1:9")
    assert "residency serve" in caught.value.hint


def test_somebody_else_is_there(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "models").write_text("<html>not ours</html>")
    files = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), files) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(EngineError, match="does not speak OpenAI"):
                models(f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
