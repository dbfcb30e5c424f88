"""From an adapter to files that an engine loads: merged weights, f16 GGUF, quantized GGUFs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from residency import fingerprint
from residency.builds import BASE, F16, MODEL_FILE
from residency.config import ExportSettings
from residency.engines.base import EngineSpec
from residency.engines.client import EngineClient
from residency.engines.llama_cpp import LlamaCpp
from residency.errors import FingerprintError
from residency.export.convert import convert
from residency.export.merge import load, merge
from residency.export.quantize import open_source, quantize
from residency.fingerprint import Fingerprint, compare, read_fingerprint, take_engine, take_torch
from residency.hardware import one_torch_thread
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer
from residency.models.gguf_file import read_header
from residency.progress import say
from residency.store import Draft, sha256_file, sha256_text
from residency.types import Artifact, Build, Conversation, Record, to_json

# Nats a token from the merged model (for `merged`: from the adapter); see `fingerprint.divergence`.
# Measured on SmolLM2-135M with 24 free-text questions in six groups of four: f16 0.00001 at most,
# Q8_0 0.005 to 0.008, Q5_K_M 0.06 to 0.11, Q4_K_M 0.04 to 0.06; on a specialist trained for 40
# steps at most 0.001, and 4.1 with its base model in its place. So each limit is several times what
# a sound build needs. A merged model may differ from an adapter that was trained in bfloat16.
TOLERANCE = {"merged": 0.02, F16: 0.01, "Q8_0": 0.05, "Q5_K_M": 0.4, "Q4_K_M": 0.4}
_TIMEOUT = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """The data set (for its probes), the trained adapter and the model under it."""

    dataset: Artifact
    adapter: Artifact
    base: BaseModel


def run(inputs: Inputs, settings: ExportSettings, out: Draft) -> Record:
    """Make every build and hold each to the adapter's fingerprint.

    Outputs: `base-f16` (the base model, for the gate), `merged` (a Hugging Face folder), `f16`, and
    one for each level. Raises `FingerprintError` at the first step that changed what the model
    says, and `ModelError` for a model that llama.cpp does not know.
    """
    out.clear()
    probes = fingerprint.probes(inputs.dataset.path)
    builds = _Builds(out.path, probes)
    name = Path(inputs.base.name).name
    # The converter keeps one core busy; what is beside it here needs another.
    with ThreadPoolExecutor(1) as beside:
        base = beside.submit(convert, inputs.base.path, builds.file(BASE), name)
        merged, reference, found = _merge(inputs, probes, out.path / "merged")
        f16 = beside.submit(convert, merged, builds.file(F16), f"{name} specialist")
        plain = take_torch(load(inputs.base.path), load_tokenizer(inputs.base.path), probes)
        base.result()
        found[BASE] = builds.finish(BASE, plain, TOLERANCE[F16], ())
        f16.result()
    found[F16] = builds.finish(F16, reference, TOLERANCE[F16], ())
    source = open_source(builds.file(F16))
    for level in settings.levels:
        made = quantize(source, builds.file(level), level)
        found[level] = builds.finish(level, reference, TOLERANCE[level], made.notes())
    figures = {
        "divergence": {name: round(value, 5) for name, value in found.items()},
        "size": {name: builds.file(name).stat().st_size for name in builds.finished},
    }
    outputs = {name: (out.path / name, "build") for name in builds.finished}
    return out.finish({"merged": (merged, "model"), **outputs}, figures)


def _merge(
    inputs: Inputs, probes: Sequence[Conversation], target: Path
) -> tuple[Path, Fingerprint, dict[str, float]]:
    """The merged folder, its fingerprint, and how far it is from the adapter's."""
    trained = read_fingerprint(inputs.adapter.path / fingerprint.FILE_NAME)
    say("merging the adapter into its base model")
    with one_torch_thread():
        model = merge(inputs.base.path, inputs.adapter.path, target)
    taken = take_torch(model, load_tokenizer(target), probes)
    step = "merging the adapter"
    found = compare(trained, taken, step=step, tolerance=TOLERANCE["merged"])
    return target, taken, {"merged": found}


class _Builds:
    """Builds below a folder: one folder each, with model, description and fingerprint."""

    def __init__(self, root: Path, probes: Sequence[Conversation]) -> None:
        self.root = root
        self.probes = probes
        self.finished: list[str] = []

    def file(self, name: str) -> Path:
        """Where the model file of the build `name` is, in a folder that exists."""
        (self.root / name).mkdir(exist_ok=True)
        return self.root / name / MODEL_FILE

    def finish(
        self, name: str, reference: Fingerprint, tolerance: float, notes: tuple[str, ...]
    ) -> float:
        """Check the model file against `reference`, describe it, and return its divergence."""
        path = self.file(name)
        step = f"making {name}"
        check_header(path, reference, step)
        say(f"checking {name} in llama.cpp")
        taken = asyncio.run(_serve(path, name, self.probes, _context(reference)))
        found = compare(reference, taken, step=step, tolerance=tolerance)
        fingerprint.write_fingerprint(path.parent, taken)
        build = Build(
            name=name,
            format="gguf",
            file=MODEL_FILE,
            size=path.stat().st_size,
            digest=sha256_file(path),
            template_digest=reference.template_digest,
            stop_tokens=reference.stop_tokens,
            fingerprint=taken.digest,
            notes=notes,
        )
        (path.parent / "build.json").write_text(to_json(build, indent=1), encoding="utf-8")
        self.finished.append(name)
        return found


def check_header(path: Path, reference: Fingerprint, step: str) -> None:
    """Raise `FingerprintError` unless the GGUF carries the template and a stop token.

    Whether the engine stops where the template ends a turn is tried later, in the engine itself.
    """
    header = read_header(path)
    hint = "the base model's folder may lack it; look at its tokenizer_config.json"
    if sha256_text(header.chat_template) != reference.template_digest:
        raise FingerprintError(
            f"{step}: template: the one in {path.name} is not the one of training", hint=hint
        )
    if not set(header.stop_tokens) & set(reference.stop_tokens):
        raise FingerprintError(f"{step}: stop tokens: {path.name} names none of them", hint=hint)


def _context(reference: Fingerprint) -> int:
    """Room for the longest probe and an answer's first tokens, in whole blocks of 256."""
    longest = max(len(probe.ids) for probe in reference.probes)
    return -(-(longest + 64) // 256) * 256


async def _serve(
    path: Path, name: str, probes: Sequence[Conversation], context: int
) -> Fingerprint:
    spec = EngineSpec(model=path, alias=name, context=context, slots=1)
    with LlamaCpp(spec) as engine:
        async with EngineClient(engine.url, engine.key, _TIMEOUT) as client:
            return await take_engine(client, probes)
