"""From what was trained to files that an engine loads: merged weights, GGUFs, other forms."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from residency import fingerprint
from residency.builds import BASE, F16, IMATRIX, MODEL_FILE, quantized, read_training, write_sums
from residency.config import ExportSettings
from residency.conversations import read_conversations
from residency.engines.base import EngineSpec
from residency.engines.llama_cpp import LlamaCpp, first_file
from residency.engines.onnx import Onnx
from residency.errors import FingerprintError, ModelError
from residency.export import gptq, onnx
from residency.export.bom import write_bom
from residency.export.card import write_card
from residency.export.convert import convert
from residency.export.imatrix import Imatrix, collect
from residency.export.lora import write_lora
from residency.export.merge import load, merge, store
from residency.export.ollama import write_modelfile
from residency.export.quantize import quantize
from residency.export.shards import split
from residency.fingerprint import Fingerprint, compare, read_fingerprint, take_engine, take_torch
from residency.hardware import one_torch_thread
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer
from residency.models.gguf_file import read_header
from residency.models.gguf_weights import open_gguf
from residency.progress import say
from residency.store import Draft, digest_of, sha256_text
from residency.types import Artifact, Build, Conversation, Record, to_json

# Nats a token from the merged model (for `merged`: from the adapter); see `fingerprint.divergence`.
# Measured on SmolLM2-135M with 24 free-text questions in six groups of four: f16 0.00001 at most,
# Q8_0 0.005 to 0.008, Q5_K_M 0.06 to 0.11, Q4_K_M 0.04 to 0.06, onnx-fp32 0.00000, onnx-int4
# 0.08 to 0.16; on a specialist trained for 40 steps at most 0.001, and 4.1 with its base model in
# its place. The base model on 8 of the recipe's questions, in brackets with an importance matrix:
# bf16 0.0002, Q6_K 0.010 (0.009), Q5_K_M 0.062 (0.009), Q4_K_M 0.047 (0.025), IQ4_XS 0.21 (0.09),
# Q3_K_M 0.14 (0.08), Q2_K 0.38 (0.31), where most tensors fall back to four bits and more. So each
# limit is several times what a sound build needs. A merged model may differ from an adapter that
# was trained in bfloat16. f16 has the narrowest: of the recipe's specialist it was
# 0.00000 away, with one tensor of zeros 0.017 to 0.2, with another rope base 0.005 to 0.012.
TOLERANCE = {
    "merged": 0.02,
    # What was merged after QLoRA, whose adapter was learnt over weights in 4 bits: 0.10 to 0.21 in
    # three groups of four questions after 20 steps, where LoRA in bfloat16 has 0.0009.
    "qlora": 0.8,
    F16: 0.002,
    "bf16": 0.01,
    "Q8_0": 0.05,
    "Q6_K": 0.1,
    "Q5_K_M": 0.4,
    "Q4_K_M": 0.4,
    "IQ4_XS": 1.0,
    "Q3_K_M": 1.0,
    "Q2_K": 2.0,
    "onnx-int4": 0.6,
    "gptq": 0.6,
}
MERGED = "merged"
LORA = "lora"
"""The adapter by itself, one of `export.also`."""
_TIMEOUT = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """The data set (for its probes), the base model, and what was trained from it: an artifact of
    the kind "adapter", or one of the kind "model", a whole Hugging Face folder."""

    dataset: Artifact
    trained: Artifact
    base: BaseModel


def run(inputs: Inputs, settings: ExportSettings, out: Draft) -> Record:
    """Make every build and hold each to the fingerprint that training took.

    Outputs: `base-f16` (the base model, for the gate, if there is one), `merged` (safetensors),
    `f16`, one for each level, and one for each other form. Raises `FingerprintError` at the first
    step that changed what the model says, and `ModelError` for a model that llama.cpp does not know
    or for a form that what was trained does not have.
    """
    _check(inputs, settings)
    out.clear()
    probes = fingerprint.probes(inputs.dataset.path)
    builds = _Builds(out.path, probes, settings.shard)
    name = Path(inputs.base.name).name
    # The converter keeps one core busy; what is beside it here needs another.
    with ThreadPoolExecutor(1) as beside:
        if inputs.base.weights:
            base = beside.submit(convert, inputs.base.path, builds.file(BASE), name)
        merged = _merge(inputs, settings, builds)
        reference = merged.fingerprint
        f16 = beside.submit(convert, merged.folder, builds.file(F16), f"{name} specialist")
        if inputs.base.weights:
            plain = take_torch(load(inputs.base.path), load_tokenizer(inputs.base.path), probes)
            base.result()
            builds.finish(BASE, plain)
        f16.result()
    source = open_gguf(builds.file(F16))  # before it may be split: what is mapped stays readable
    builds.finish(F16, reference)
    for level_name, (level, spares) in quantized(settings).items():
        imatrix = merged.imatrix if spares else None
        made = quantize(source, builds.file(level_name), level, imatrix)
        builds.finish(level_name, reference, made.notes())
    if "lora" in settings.also:
        adapter = builds.file(LORA, "adapter.gguf")
        write_lora(inputs.base.path, inputs.trained.path, adapter, f"{name} specialist")
        builds.finish_adapter(adapter, reference)
    for form, precision in onnx.FORMS.items():
        if form in settings.also:
            onnx.make(merged.folder, builds.file(form, "model"), precision)
            builds.finish_onnx(form, reference)
    tokenizer = load_tokenizer(merged.folder)
    rows = read_conversations(inputs.dataset.path / "train.jsonl")
    if "gptq" in settings.also:
        target = builds.file("gptq", "model")
        taken, note = gptq.make(merged.folder, target, tokenizer, rows, reference)
        builds.describe(target, "gptq", taken, reference, (note,))
    for build in builds.finished.values():
        folder = out.path / build.name
        if build.name == BASE:
            continue
        if "ollama" in settings.also and build.format == "gguf" and build.name != LORA:
            write_modelfile(folder, build, tokenizer, rows)
        write_card(folder, build, inputs, builds.divergence[build.name])
        write_bom(folder, build, inputs, builds.divergence[build.name])
        write_sums(folder)
    figures = {
        "divergence": {name: round(value, 5) for name, value in builds.divergence.items()},
        "size": {name: build.size for name, build in builds.finished.items()},
    }
    outputs = {name: (out.path / name, "build") for name in builds.finished}
    return out.finish(outputs, figures)


def _check(inputs: Inputs, settings: ExportSettings) -> None:
    if LORA in settings.also and inputs.trained.kind != "adapter":
        raise ModelError(
            "export.also has lora, and this training made no adapter but a whole model",
            hint="leave lora out of export.also, or train with method lora or qlora",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Merged:
    """The merged model's folder, and what was learnt of it in memory."""

    folder: Path
    fingerprint: Fingerprint
    imatrix: Imatrix | None


def _merge(inputs: Inputs, settings: ExportSettings, builds: _Builds) -> _Merged:
    target = builds.file(MERGED, "model")
    folder = inputs.trained.path
    trained = read_fingerprint(folder / fingerprint.FILE_NAME)
    if inputs.trained.kind == "adapter":
        say("merging the adapter into its base model")
        with one_torch_thread():
            model = merge(inputs.base.path, folder, target)
    else:
        model = store(folder, target)
    tokenizer = load_tokenizer(target)
    taken = take_torch(model, tokenizer, builds.probes)
    method = read_training(folder).method
    builds.describe(target, "safetensors", taken, trained, made_by=method)
    imatrix = None
    if settings.imatrix:
        text = inputs.dataset.path / "train.jsonl"
        imatrix = collect(model, tokenizer, read_conversations(text), text.name)
    return _Merged(folder=target, fingerprint=taken, imatrix=imatrix)


class _Builds:
    """Builds below a folder: one folder each, with model, description and fingerprint.

    `shard` is the most megabytes of a file; `divergence` is each build's from what it was made of.
    """

    def __init__(self, root: Path, probes: Sequence[Conversation], shard: int) -> None:
        self.root = root
        self.probes = probes
        self.shard = shard
        self.finished: dict[str, Build] = {}
        self.divergence: dict[str, float] = {}

    def file(self, name: str, file: str = MODEL_FILE) -> Path:
        """Where the model file of the build `name` is, in a folder that exists."""
        (self.root / name).mkdir(exist_ok=True)
        return self.root / name / file

    def finish(self, name: str, reference: Fingerprint, notes: tuple[str, ...] = ()) -> None:
        """Split the model file if need be, check it against `reference`, and describe it."""
        path = split(self.file(name), self.shard)
        check_header(first_file(path), reference, f"making {name}")
        spec = EngineSpec(model=path, alias=name, context=_context(reference), slots=1)
        self.describe(path, "gguf", self._ask(LlamaCpp(spec)), reference, notes)

    def finish_adapter(self, path: Path, reference: Fingerprint) -> None:
        """The same for an adapter, which is checked over the base model."""
        model = self.root / BASE / self.finished[BASE].file
        context = _context(reference)
        spec = EngineSpec(model=model, alias=LORA, context=context, slots=1, lora=(path,))
        notes = (f"an adapter for llama.cpp (--lora), to be laid over {BASE}",)
        self.describe(path, "gguf", self._ask(LlamaCpp(spec)), reference, notes)

    def finish_onnx(self, name: str, reference: Fingerprint) -> None:
        """The same for a folder that ONNX Runtime loads."""
        path = self.file(name, "model")
        spec = EngineSpec(model=path, alias=name, context=_context(reference), slots=1)
        self.describe(path, "onnx", self._ask(Onnx(spec)), reference)

    def _ask(self, engine: LlamaCpp | Onnx) -> Fingerprint:
        say(f"checking {engine.spec.alias} in {engine.name}")
        return asyncio.run(_serve(engine, self.probes))

    def describe(
        self,
        path: Path,
        format: str,
        taken: Fingerprint,
        reference: Fingerprint,
        notes: tuple[str, ...] = (),
        made_by: str = "",
    ) -> None:
        """Hold what was `taken` of a build's model against `reference`, and write down both.

        `made_by` is the method of training whose result was merged.
        """
        name = path.parent.name
        kind = name.removesuffix(IMATRIX)
        tolerance = TOLERANCE.get(made_by or kind, TOLERANCE.get(kind, TOLERANCE[F16]))
        step = "merging what was trained" if name == MERGED else f"making {name}"
        found = compare(reference, taken, step=step, tolerance=tolerance)
        fingerprint.write_fingerprint(path.parent, taken)
        files = list(path.iterdir()) if path.is_dir() else [path]
        self.divergence[name] = found
        self.finished[name] = build = Build(
            name=name,
            format=format,
            file=path.name,
            size=sum(file.stat().st_size for file in files),
            digest=digest_of(path),
            template_digest=reference.template_digest,
            stop_tokens=reference.stop_tokens,
            fingerprint=taken.digest,
            notes=notes,
        )
        (path.parent / "build.json").write_text(to_json(build, indent=1), encoding="utf-8")


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


async def _serve(engine: LlamaCpp | Onnx, probes: Sequence[Conversation]) -> Fingerprint:
    with engine:
        async with engine.client(_TIMEOUT) as client:
            return await take_engine(client, probes)
