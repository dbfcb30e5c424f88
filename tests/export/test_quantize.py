from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from residency.engines.base import EngineSpec
from residency.engines.client import EngineClient
from residency.engines.llama_cpp import LlamaCpp
from residency.errors import ModelError
from residency.export.convert import convert
from residency.export.quantize import Quantized, quantize
from residency.models.base import BaseModel
from residency.models.gguf_file import read_header
from residency.models.gguf_weights import open_gguf
from residency.types import Level
from tests.export.conftest import Exported

# What llama.cpp's policy gives SmolLM2-135M, whose rows of 576 the K types' blocks do not divide.
TYPES = {
    "Q8_0": {"F32": 61, "Q8_0": 211},
    "Q5_K_M": {"F32": 61, "Q5_1": 166, "Q5_K": 16, "Q6_K": 14, "Q8_0": 15},
    "Q4_K_M": {"F32": 61, "Q4_K": 16, "Q5_0": 166, "Q6_K": 14, "Q8_0": 15},
    "bf16": {"BF16": 211, "F32": 61},
    "Q6_K": {"F32": 61, "Q6_K": 30, "Q8_0": 181},
    "IQ4_XS": {"F32": 61, "IQ4_NL": 180, "IQ4_XS": 27, "Q5_K": 3, "Q8_0": 1},
    "Q3_K_M": {"F32": 61, "Q4_0": 120, "Q4_K": 29, "Q5_0": 58, "Q5_1": 2, "Q5_K": 1, "Q8_0": 1},
    "Q2_K": {"F32": 61, "Q3_K": 30, "Q4_0": 180, "Q8_0": 1},
}
FALLBACKS = {"bf16": 0, "Q8_0": 0} | dict.fromkeys(("Q6_K", "Q5_K_M", "Q4_K_M"), 180)
FALLBACKS |= dict.fromkeys(("IQ4_XS", "Q3_K_M", "Q2_K"), 180)

LOWER = ("bf16", "Q6_K", "IQ4_XS", "Q3_K_M", "Q2_K")

# Runs in a process of its own: a wrong guess about a C function must not end the test run.
COMPARE = """
import ctypes, json, numpy, libgguf, xllamacpp.xllamacpp as engine
quantize = ctypes.CDLL(engine.__file__).ggml_quantize_chunk
quantize.restype = ctypes.c_size_t
quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
                     ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
random = numpy.random.default_rng(3)
rows = (random.standard_normal((64, 512)) * 0.05).astype(numpy.float32)
weights = random.exponential(size=512).astype(numpy.float32)
differ, changed = {}, []
for name in ("Q8_0", "Q4_0", "Q5_0", "Q5_1", "IQ4_NL", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
             "IQ4_XS"):
    kind, plain = libgguf.GGMLQuantizationType[name], None
    for given, at in ((None, None), (weights, weights.ctypes.data)):
        ours = libgguf.quantize_rows(rows, kind, given)
        theirs = numpy.zeros_like(ours)
        written = quantize(int(kind), rows.ctypes.data, theirs.ctypes.data, 0, 64, 512, at)
        differ[f"{name} {at is not None}"] = int((ours != theirs).sum()) + written - ours.nbytes
        changed += [name] if plain is not None and (ours != plain).any() else []
        plain = ours
print(json.dumps([differ, changed]))
"""


@pytest.fixture(scope="module")
def smollm2_f16(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("f16") / "model.gguf"
    convert(base.path, path, base.name)
    return path


def test_bytes_are_those_of_the_llama_cpp_that_serves() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMPARE], capture_output=True, text=True, check=True
    )
    differ, changed = json.loads(done.stdout)
    assert len(differ) == 22
    assert set(differ.values()) == {0}
    assert len(changed) == 10  # an importance matrix matters to all but Q8_0


@pytest.mark.parametrize(
    "level",
    [
        *("Q8_0", "Q5_K_M", "Q4_K_M"),
        *(pytest.param(level, marks=pytest.mark.slow) for level in LOWER),
    ],
)
def test_an_odd_width_loads_at_every_level_and_answers(
    smollm2_f16: Path, tmp_path: Path, level: Level
) -> None:
    path = tmp_path / "model.gguf"
    made = quantize(open_gguf(smollm2_f16), path, level)
    kinds = [tensor.type for tensor in read_header(path).tensors]
    assert {kind: kinds.count(kind) for kind in kinds} == TYPES[level] == made.types
    assert sum(made.fallbacks.values()) == FALLBACKS[level]
    wanted, likeliest, answer = asyncio.run(_ask(path))
    assert wanted == likeliest
    assert answer.strip()


async def _ask(path: Path) -> tuple[int, int, str]:
    """The token of " Paris", the likeliest one after its cue, and a chat answer."""
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0.0}
    with LlamaCpp(EngineSpec(model=path, alias="odd", context=256, slots=1)) as engine:
        async with EngineClient(engine.url, engine.key) as client:
            cue = await client.tokenize("The capital of France is")
            (likeliest, _), *_ = await client.top_logprobs(cue, 3)
            wanted = (await client.tokenize(" Paris"))[0]
            return wanted, likeliest, (await client.chat(body)).text


def test_notes_name_types_and_what_fell_back(exported: Exported) -> None:
    odd = Quantized(
        types={"Q5_0": 166, "Q8_0": 14}, fallbacks={"Q4_K -> Q5_0": 166, "Q6_K -> Q8_0": 14}
    )
    assert odd.notes()[0] == "tensors by type: 166 Q5_0, 14 Q8_0"
    assert odd.notes()[1].startswith("180 tensors")
    assert odd.notes()[1].endswith("166 Q4_K -> Q5_0, 14 Q6_K -> Q8_0")
    even = json.loads((exported.folder("Q4_K_M") / "build.json").read_text())["notes"]
    assert len(even) == 1
    assert "Q4_K" in even[0]


def test_metadata_is_kept(exported: Exported) -> None:
    before = read_header(exported.folder("f16") / "model.gguf").metadata
    after = read_header(exported.folder("Q5_K_M") / "model.gguf").metadata
    changed = {key for key in {*before, *after} if before.get(key) != after.get(key)}
    assert changed == {"general.file_type"}


def test_a_quantized_source_is_refused(exported: Exported, tmp_path: Path) -> None:
    source = open_gguf(exported.folder("Q8_0") / "model.gguf")
    with pytest.raises(ModelError, match="is Q8_0: only float16 and float32"):
        quantize(source, tmp_path / "model.gguf", "Q4_K_M")
