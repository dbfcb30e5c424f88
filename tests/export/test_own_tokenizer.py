"""llama.cpp reads text as a tokenizer that was trained here does."""

import asyncio
import random
from pathlib import Path

from residency.config import TrainSettings
from residency.engines.base import EngineSpec
from residency.engines.client import EngineClient
from residency.engines.llama_cpp import LlamaCpp
from residency.export.convert import convert
from residency.models.chat import load_tokenizer
from residency.models.gguf_file import read_header
from residency.train import scratch
from tests.train import runs

TEXTS = [
    "hello world",
    "  two  spaces ",
    "tabs\t\tand\n\n\nlines \r\n x",
    "12345 3.14 1/2 B12.3>D4 kd*17",
    "½ ٣٤ Ⅷ 一二三 ２",
    "我想在apple工作1314151天～",
    "🚀 (normal) 😶\u200d🌫️",
    "I'll 'RE we've don't",
    "<|user|>lift it<|end|><|assistant|>",
    "កាន់តែពិសេស",
    "  \u3000\u00a0x",
    "e\u0301 é",
    "------======= '''''' ```` ......!!!!?????",
]
_BLOCKS = ((32, 126), (32, 32), (10, 10), (0xA1, 0x24F), (0x400, 0x4FF), (0x4E00, 0x9FFF))


def noise(count: int) -> list[str]:
    """Random text of several scripts, numerals other than 0 to 9 among it."""
    dice = random.Random(3)
    return [
        "".join(chr(dice.randint(*dice.choice(_BLOCKS))) for _ in range(dice.randint(1, 40)))
        for _ in range(count)
    ]


def test_both_make_the_same_tokens(tmp_path: Path) -> None:
    dataset = runs.write_dataset(tmp_path / "dataset").path
    settings = TrainSettings(method="scratch", parameters=1_000_000, vocabulary=400)
    model = scratch.begin(dataset, settings, None, tmp_path / "model")
    convert(model, tmp_path / "model.gguf", "own")
    header = read_header(tmp_path / "model.gguf")
    assert header.metadata["tokenizer.ggml.pre"] == "smollm"
    assert header.stop_tokens[0] == "<|end|>"
    tokenizer = load_tokenizer(model)
    texts = [*TEXTS, *noise(200)]

    async def ask(client: EngineClient) -> list[list[int]]:
        async with client:
            return [await client.tokenize(text) for text in texts]

    spec = EngineSpec(model=tmp_path / "model.gguf", alias="own", context=512, slots=1)
    with LlamaCpp(spec) as engine:
        its = asyncio.run(ask(engine.client(60.0)))
    ours = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert [t for t, a, b in zip(texts, ours, its, strict=True) if a != b] == []
