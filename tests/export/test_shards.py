from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from residency.engines.base import EngineSpec
from residency.engines.client import EngineClient
from residency.engines.llama_cpp import LlamaCpp
from residency.errors import EngineLoadError
from residency.export.shards import split
from residency.models.gguf_file import read_header
from residency.store import digest_of
from tests.export.conftest import Exported


@pytest.fixture
def whole(exported: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copy(exported.folder("Q4_K_M") / "model.gguf", tmp_path))


def test_a_small_file_stays_as_it_is(whole: Path) -> None:
    assert split(whole, 0) == split(whole, 100) == whole
    assert whole.is_file()


def test_shards_answer_as_the_whole_and_are_all_checked(whole: Path) -> None:
    expected = asyncio.run(_likeliest(whole))
    tensors = {t.name for t in read_header(whole).tensors}
    folder = split(whole, 1)
    assert folder.name == "model"
    assert not whole.exists()
    shards = sorted(folder.iterdir())
    count = len(shards)
    assert count > 1
    assert shards[0].name == f"model-00001-of-{count:05}.gguf"
    headers = [read_header(shard) for shard in shards]
    assert {t.name for header in headers for t in header.tensors} == tensors
    for number, header in enumerate(headers):
        fields = {k: v for k, v in header.metadata.items() if k.startswith("split.")}
        assert fields == {
            "split.no": number,
            "split.count": count,
            "split.tensors.count": len(tensors),
        }
    assert asyncio.run(_likeliest(folder)) == expected

    digest = digest_of(folder)
    data = bytearray(shards[-1].read_bytes())
    data[-1] ^= 1
    shards[-1].write_bytes(data)
    with pytest.raises(EngineLoadError, match="its bytes have changed"):
        LlamaCpp(EngineSpec(model=folder, alias="shards", sha256=digest)).check()


async def _likeliest(model: Path) -> list[tuple[int, float]]:
    with LlamaCpp(EngineSpec(model=model, alias="shards", context=256, slots=1)) as engine:
        async with EngineClient(engine.url, engine.key) as client:
            return await client.top_logprobs(await client.tokenize("Hello"), 5)
