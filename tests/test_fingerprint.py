from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from residency import fingerprint
from residency.conversations import write_conversations
from residency.engines.base import EngineSpec
from residency.engines.client import EngineClient
from residency.engines.llama_cpp import LlamaCpp
from residency.errors import DataError, FingerprintError, ModelError, StorageError
from residency.export.convert import convert
from residency.fingerprint import Fingerprint, compare, divergence, take_engine, take_torch
from residency.models.base import BaseModel
from residency.models.chat import load_tokenizer, render
from residency.types import Conversation
from tests import tooled
from tests.planted import CHATML_WITHOUT_SYSTEM, rewritten
from tests.specialist import Specialist, conversations, make_base

PROBES = conversations()[:2]


@pytest.fixture(scope="module")
def trained(specialist: Specialist) -> Fingerprint:
    """Taken on the small base model, of which `gguf` is the file."""
    return _torch(specialist.base.path)


@pytest.fixture(scope="module")
def gguf(specialist: Specialist, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    convert(specialist.base.path, path, "small")
    return path


def _model(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def _torch(folder: Path) -> Fingerprint:
    return take_torch(_model(folder), load_tokenizer(folder), PROBES)


def _engine(path: Path, probes: list[Conversation] = PROBES) -> Fingerprint:
    async def ask(engine: LlamaCpp) -> Fingerprint:
        async with EngineClient(engine.url, engine.key) as client:
            return await take_engine(client, probes)

    with LlamaCpp(EngineSpec(model=path, alias="probe", context=512, slots=1)) as engine:
        return asyncio.run(ask(engine))


def test_torch_and_the_engine_agree_on_the_real_model(base: BaseModel, base_gguf: Path) -> None:
    """One set of weights, once in float32 and once in the 4 bits that they came in."""
    found = compare(_torch(base.path), _engine(base_gguf), step="serving", tolerance=0.02)
    assert found >= 0


def test_a_sound_file_passes(trained: Fingerprint, gguf: Path) -> None:
    served = _engine(gguf)
    assert served.stop_tokens == ("<|im_end|>",)
    assert compare(trained, served, step="converting", tolerance=0.001) < 0.001


def test_a_wrong_template_is_named(trained: Fingerprint, gguf: Path, tmp_path: Path) -> None:
    wrong = rewritten(
        gguf,
        tmp_path / "wrong.gguf",
        lambda writer: writer.add_chat_template(CHATML_WITHOUT_SYSTEM),
    )
    with pytest.raises(FingerprintError, match="converting: template"):
        compare(trained, _engine(wrong), step="converting", tolerance=0.01)


def test_a_missing_end_of_turn_token_is_named(
    specialist: Specialist, gguf: Path, tmp_path: Path
) -> None:
    """The model was taught to end with <gh_stars>; the file does not say that it ends there."""
    tokenizer = load_tokenizer(specialist.base.path)
    template = tokenizer.chat_template.replace("<|im_end|>", "<gh_stars>")
    tokenizer.chat_template, tokenizer.eos_token = template, "<gh_stars>"
    taught = take_torch(_model(specialist.base.path), tokenizer, PROBES)
    assert taught.end_of_turn == "<gh_stars>"
    file = rewritten(
        gguf, tmp_path / "endless.gguf", lambda writer: writer.add_chat_template(template)
    )
    with pytest.raises(FingerprintError, match=r"converting: stop tokens: .*<gh_stars>"):
        compare(taught, _engine(file), step="converting", tolerance=0.01)
    mended = rewritten(
        file,
        tmp_path / "mended.gguf",
        lambda writer: writer.add_eos_token_id(tokenizer.convert_tokens_to_ids("<gh_stars>")),
    )
    assert compare(taught, _engine(mended), step="converting", tolerance=0.01) < 0.01


def test_a_template_that_ends_no_turn_cannot_be_taught(specialist: Specialist) -> None:
    tokenizer = load_tokenizer(specialist.base.path)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "")
    with pytest.raises(ModelError, match="no special token ends an answer"):
        take_torch(_model(specialist.base.path), tokenizer, PROBES)


def test_a_swapped_weight_file_is_named(specialist: Specialist, gguf: Path) -> None:
    """The base model's file where the specialist's should be."""
    taught = fingerprint.read_fingerprint(specialist.adapter.path / "fingerprint.json")
    probes = fingerprint.probes(specialist.dataset.path)
    with pytest.raises(FingerprintError, match="making Q4_K_M: log-probabilities"):
        compare(taught, _engine(gguf, probes), step="making Q4_K_M", tolerance=0.4)


def test_other_token_ids_are_named(trained: Fingerprint) -> None:
    first = trained.probes[0]
    changed = dataclasses.replace(first, ids=(*first.ids[:3], 9, *first.ids[4:]))
    other = dataclasses.replace(trained, probes=(changed, *trained.probes[1:]))
    with pytest.raises(
        FingerprintError, match=f"token ids: probe 1, token 3: 9, not {first.ids[3]}"
    ):
        compare(trained, other, step="merging", tolerance=1.0)
    shorter = dataclasses.replace(first, ids=first.ids[:-1])
    other = dataclasses.replace(trained, probes=(shorter, *trained.probes[1:]))
    with pytest.raises(
        FingerprintError, match=f"{len(first.ids) - 1} tokens, not {len(first.ids)}"
    ):
        compare(trained, other, step="merging", tolerance=1.0)


def test_a_model_of_no_numbers_never_passes(trained: Fingerprint) -> None:
    place = dataclasses.replace(
        trained.probes[0].places[0], logprobs=(float("nan"),) * fingerprint.TOP
    )
    broken = dataclasses.replace(trained.probes[0], places=(place, *trained.probes[0].places[1:]))
    other = dataclasses.replace(trained, probes=(broken, *trained.probes[1:]))
    with pytest.raises(FingerprintError, match="log-probabilities: they are no numbers"):
        compare(trained, other, step="merging", tolerance=1e9)


def test_divergence_is_zero_with_itself_and_grows_with_the_distance(
    trained: Fingerprint, tmp_path: Path, specialist: Specialist
) -> None:
    assert divergence(trained, trained) == 0.0
    other = _torch(make_base(tmp_path / "other", specialist.base.path, seed=6).path)
    assert divergence(trained, other) > 0.4


def test_places_are_in_the_prompt_and_from_before_an_answer_to_after_it(
    trained: Fingerprint, specialist: Specialist
) -> None:
    tokenizer = load_tokenizer(specialist.base.path)
    for probe, conversation in zip(trained.probes, PROBES, strict=True):
        start = len(render(tokenizer, conversation.prompt, answer=False).ids)
        lengths = [place.length for place in probe.places]
        assert [length < start for length in lengths] == [True] * 3 + [False] * 3
        assert (lengths[3], lengths[-1]) == (start, len(probe.ids))
        assert lengths == sorted(set(lengths))
        for place in probe.places:
            assert list(place.logprobs) == sorted(place.logprobs, reverse=True)


def test_an_older_fingerprint_is_compared_where_both_looked(trained: Fingerprint) -> None:
    probes = tuple(
        dataclasses.replace(probe, places=probe.places[fingerprint.PLACES :])
        for probe in trained.probes
    )
    older = dataclasses.replace(trained, probes=probes)
    assert compare(older, trained, step="serving", tolerance=0.0) == 0.0


def test_it_round_trips_and_a_damaged_file_is_refused(trained: Fingerprint, tmp_path: Path) -> None:
    fingerprint.write_fingerprint(tmp_path, trained)
    path = tmp_path / "fingerprint.json"
    assert fingerprint.read_fingerprint(path) == trained
    assert fingerprint.read_fingerprint(path).digest == trained.digest
    path.write_text(path.read_text()[:-9])
    with pytest.raises(StorageError, match="damaged fingerprint"):
        fingerprint.read_fingerprint(path)


def test_probes_are_the_first_of_the_validation_split(tmp_path: Path) -> None:
    write_conversations(tmp_path / "validation.jsonl", conversations())
    assert fingerprint.probes(tmp_path) == conversations()[:4]
    called = tooled.conversation("Q", tooled.call(day="Monday"))
    write_conversations(tmp_path / "validation.jsonl", [called, *conversations()])
    assert fingerprint.probes(tmp_path) == conversations()[:4]
    write_conversations(tmp_path / "validation.jsonl", [called])
    (only,) = fingerprint.probes(tmp_path)
    assert only.messages[-1].to_dict() == {"role": "assistant", "content": called.answer}
    write_conversations(tmp_path / "validation.jsonl", [])
    with pytest.raises(DataError, match="no conversation to probe with"):
        fingerprint.probes(tmp_path)
