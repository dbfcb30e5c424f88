"""vLLM from its own environment; what needs the real one is slow and skipped where it is not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from residency import fingerprint
from residency.engines import environments
from residency.engines.base import EngineSpec
from residency.engines.client import EngineClient, Load
from residency.engines.vllm import Vllm, VllmClient, reason_in, unsupported
from residency.errors import EngineLoadError, EngineRejected, MissingError
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer
from residency.types import Conversation, Message
from tests.engines.processes import eventually, gone
from tests.specialist import conversations

real = pytest.mark.skipif(
    not environments.VLLM.ready, reason="vLLM is not installed: residency setup vllm"
)
QUESTION = {"messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 8}


def test_without_its_environment_vllm_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESIDENCY_HOME", str(tmp_path))
    with pytest.raises(MissingError) as caught:
        Vllm(EngineSpec(model=tmp_path, alias="x")).start()
    assert caught.value.hint == "install it with: residency setup vllm"


PACKED = {"quant_method": "compressed-tensors", "format": "pack-quantized"}


@pytest.mark.parametrize(
    ("quantization", "flags", "runs"),
    [
        (None, {"avx2"}, True),
        (PACKED, {"avx2"}, False),
        ({"quant_method": "gptq", "bits": 4}, {"avx2"}, False),
        (PACKED, {"avx2", "avx512f"}, True),
        (PACKED, set(), True),  # not x86
        ({"quant_method": "compressed-tensors", "format": "int-quantized"}, {"avx2"}, True),
    ],
)
def test_packed_weights_ask_for_avx512(
    tmp_path: Path, quantization: object, flags: set[str], runs: bool
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"quantization_config": quantization}))
    assert bool(unsupported(config, flags)) != runs


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_config_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(EngineLoadError, match="not readable"):
        unsupported(tmp_path / "config.json", ())


METRICS = b"""# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="x"} 3.0
vllm:num_requests_waiting{engine="0",model_name="x"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="x"} 0.125
"""


def test_its_load_is_read_from_its_metrics() -> None:
    class Told(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/metrics"
            self.send_response(200)
            self.send_header("content-length", str(len(METRICS)))
            self.end_headers()
            self.wfile.write(METRICS)

        def log_message(self, *_: object) -> None: ...

    async def ask(port: int) -> Load | None:
        async with VllmClient(f"http://127.0.0.1:{port}", "key") as client:
            return await client.load()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Told)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        found = asyncio.run(ask(server.server_address[1]))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert found == Load(slots=None, busy=3, cache=0.125)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if vLLM were installed: what is refused before it starts does not need it."""
    monkeypatch.setenv("RESIDENCY_HOME", str(tmp_path / "home"))
    environments.VLLM.finish()
    yield


@pytest.mark.usefixtures("installed")
def test_a_folder_without_a_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(EngineLoadError, match=r"config\.json is missing"):
        Vllm(EngineSpec(model=tmp_path, alias="x")).start()


@pytest.mark.usefixtures("installed")
def test_changed_bytes_are_caught_by_the_digest(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EngineLoadError, match="its bytes have changed"):
        Vllm(EngineSpec(model=tmp_path, alias="x", sha256="0" * 64)).start()


def test_reason_is_the_cause_and_not_its_echo() -> None:
    log = [
        "(EngineCore pid=7) INFO 11-24 [core.py:1] Initializing",
        "(EngineCore pid=7) ERROR 11-24 [core.py:9] ValueError: no room for keys and values",
        "RuntimeError: Engine core initialization failed. See root cause above. Failed: {}",
    ]
    assert reason_in(log) == "no room for keys and values"
    assert reason_in(log[:1]) == reason_in(log[2:]) == ""


@real
@pytest.mark.slow
def test_load_error_is_said_in_vllms_words(base: BaseModel, tmp_path: Path) -> None:
    for file in base.path.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "config.json").unlink()
    odd = (base.path / "config.json").read_text().replace("LlamaForCausalLM", "NoSuchModel")
    (tmp_path / "config.json").write_text(odd)
    with pytest.raises(EngineLoadError, match=r"vLLM cannot load it: .*NoSuchModel"):
        Vllm(EngineSpec(model=tmp_path, alias="odd", context=256, slots=2)).start()


@real
@pytest.mark.slow
def test_vllm_answers_is_left_and_ends_with_all_its_processes(base: BaseModel) -> None:
    engine = Vllm(EngineSpec(model=base.path, alias="base", context=512, slots=2))
    with engine:
        asyncio.run(ask(engine))
        family = processes(engine)
        assert engine.memory() > 500e6
        os.kill(engine.pid, signal.SIGKILL)
        assert eventually(lambda: all(map(gone, family)))
        assert not engine.alive()
        engine.start()
        family = processes(engine)
        os.kill(family[-1], signal.SIGKILL)
        assert eventually(lambda: not engine.alive(), seconds=120)
        assert eventually(lambda: all(map(gone, family)))
        assert "ended" in engine.last_words()


@real
@pytest.mark.slow
def test_its_fingerprint_is_that_of_transformers(base: BaseModel) -> None:
    """What the gate asks before it asks anything else. vLLM computes in bfloat16 here."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    probes = conversations()[:2]
    trained = fingerprint.take_torch(model, load_tokenizer(base.path), probes)
    with Vllm(EngineSpec(model=base.path, alias="base", context=512, slots=1)) as engine:
        served = asyncio.run(_fingerprint(engine, probes))
    assert len(served.probes[0].places[0].ids) == fingerprint.TOP
    fingerprint.compare(trained, served, step="serving", tolerance=0.02)


async def _fingerprint(engine: Vllm, probes: Sequence[Conversation]) -> fingerprint.Fingerprint:
    async with engine.client(120) as client:
        return await fingerprint.take_engine(client, probes)


def processes(engine: Vllm) -> list[int]:
    """The host and all below it, the one that computes last."""
    host = psutil.Process(engine.pid)
    below = sorted(host.children(recursive=True), key=lambda p: p.memory_info().rss)
    return [host.pid, *(process.pid for process in below)]


async def ask(engine: Vllm) -> None:
    async with engine.client(120) as client:
        prompt = await client.apply_template([Message(role="user", content="Say yes.")])
        assert prompt.endswith("<|im_start|>user\nSay yes.<|im_end|>\n<|im_start|>assistant\n")
        tokens = await client.tokenize(prompt)
        answer = await client.chat(QUESTION)
        assert answer.prompt_tokens == len(tokens)
        assert answer.completion_tokens == 8
        assert await client.health()
        with pytest.raises(EngineRejected, match="context length is 512"):
            await client.chat({"messages": [{"role": "user", "content": "a " * 2000}]})
        await leave_early(engine, client)
    stranger = engine.client(60)
    stranger._headers = {"Authorization": "Bearer wrong"}
    async with stranger:
        with pytest.raises(EngineRejected) as caught:
            await stranger.chat(QUESTION)
    assert caught.value.status == 401


async def leave_early(engine: Vllm, client: EngineClient) -> None:
    long = QUESTION | {"max_tokens": 450, "min_tokens": 450}
    before = count(engine, "generation_tokens_total")
    async with contextlib.aclosing(client.chat_stream(long)) as chunks:
        await anext(chunks)
    assert await asyncio.to_thread(eventually, lambda: count(engine, "num_requests_running") == 0)
    assert count(engine, "generation_tokens_total") - before < 400


def count(engine: Vllm, name: str) -> float:
    """One of vLLM's own metrics."""
    with urllib.request.urlopen(engine.url + "/metrics") as response:
        lines = response.read().decode().splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(f"vllm:{name}{{")))
