"""Logits beside what the serving engine says of the same tokens."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from residency.engines import logits_host
from residency.engines.base import EngineSpec
from residency.engines.llama_cpp import LlamaCpp
from residency.engines.logits import Logits
from residency.errors import EngineError

# More than one batch of llama.cpp's and, from 37 on, no whole number of ours.
IDS = [1, *range(500, 700)]
# What llama.h promises for some fields from all over its structures, by the tail of which a
# shifted layout would show. In a process of its own: a wrong guess must not end the test run.
DEFAULTS = """
import json
from residency.engines.logits_host import library
c = library()
model, context = c.llama_model_default_params(), c.llama_context_default_params()
names = ("n_ctx n_batch n_ubatch n_seq_max rope_scaling_type flash_attn_type yarn_beta_slow "
         "defrag_thold type_k type_v offload_kqv no_perf op_offload swa_full kv_unified ctx_other")
print(json.dumps([
    [model.n_gpu_layers, model.split_mode, model.use_extra_bufts, model.check_tensors],
    [getattr(context, name) for name in names.split()],
]))
"""


@pytest.fixture
def logits(base_gguf: Path) -> Iterator[Logits]:
    with Logits(base_gguf, context=256, threads=1) as reader:
        yield reader


def whole(reader: Logits, first: int = 0) -> NDArray[np.float32]:
    return np.concatenate(list(reader.read(IDS, first)))


def test_they_are_those_of_the_engine_that_serves(base_gguf: Path, logits: Logits) -> None:
    async def ask(engine: LlamaCpp) -> list[tuple[int, float]]:
        async with engine.client(timeout=60) as client:
            return await client.top_logprobs(IDS, 40)

    # Asked once: its cache would leave one token to compute, which has kernels of its own.
    with LlamaCpp(EngineSpec(model=base_gguf, alias="base", context=256, slots=1)) as engine:
        served = asyncio.run(ask(engine))
    last = whole(logits)[-1].astype(np.float64)
    ours = last - np.log(np.exp(last).sum())
    assert [ours[token] for token, _ in served] == pytest.approx([p for _, p in served], abs=1e-3)


def test_a_later_first_position_leaves_the_rest_as_it_was(logits: Logits) -> None:
    everything = whole(logits)
    assert everything.shape == (201, 49152)
    assert np.array_equal(whole(logits, 37), everything[37:])
    assert np.array_equal(whole(logits), everything)


def test_a_text_over_the_context_is_refused_before_it_is_sent(logits: Logits) -> None:
    with pytest.raises(EngineError, match="a text of 257 tokens; 256 fit"):
        list(logits.read([1] * 257))
    assert len(whole(logits)) == 201


def test_a_token_that_the_model_lacks_is_named(logits: Logits) -> None:
    with pytest.raises(EngineError, match="invalid token"):
        list(logits.read([1, 49152]))


def test_a_truncated_file_is_said(base_gguf: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(base_gguf.read_bytes()[:20_000_000])
    with (
        Logits(cut, context=64) as reader,
        pytest.raises(EngineError, match=r"cut\.gguf: no logits: .*(incomplete|file bounds)"),
    ):
        list(reader.read([1, 2]))


def test_a_child_that_dies_is_said(logits: Logits) -> None:
    parts = logits.read(IDS)
    next(parts)
    os.kill(logits._process.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match="no logits: the engine was killed by SIGKILL"):
        list(parts)
    with pytest.raises(EngineError, match="killed by SIGKILL"):
        whole(logits)


def test_another_release_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logits_host, "LAYOUT_OF", "2026.1.1")
    with pytest.raises(RuntimeError, match=r"read from xllamacpp 2026\.1\.1; installed is 20"):
        logits_host.library()


def test_the_structures_have_the_layout_of_the_library() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DEFAULTS], capture_output=True, text=True, check=True
    )
    f16, automatic, unspecified = 1, -1, -1
    assert json.loads(done.stdout) == [
        [-1, 1, True, False],
        [512, 2048, 512, 1, unspecified, automatic, -1.0, -1.0, f16, f16, *[True] * 4, False, None],
    ]
