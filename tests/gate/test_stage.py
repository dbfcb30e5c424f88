"""The gate on a real engine: the carried GGUF, quantized as it is, stands for all builds."""

from __future__ import annotations

import asyncio
import json
import math
import os
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from residency import fingerprint
from residency.config import EngineSettings, GateSettings
from residency.conversations import write_conversations
from residency.engines.base import EngineSpec
from residency.engines.client import EngineClient
from residency.engines.llama_cpp import LlamaCpp
from residency.errors import (
    DataError,
    EngineLoadError,
    EngineRejected,
    FingerprintError,
    SettingsError,
    StorageError,
)
from residency.gate.answers import Answer, Timing, keep
from residency.gate.baseline import Baseline
from residency.gate.stage import Inputs, answers_folder, check, max_tokens, run
from residency.store import Draft, Store, digest_tree, sha256_file, sha256_text
from residency.types import Artifact, Build, Conversation, Record, to_json
from tests.gate.results import conversation
from tests.planted import overwritten

ENGINE = EngineSettings(context=512, slots=1)
SETTINGS = GateSettings(exact=0.5, gain=0.25)
CASES = [
    conversation("Say yes.", "Yes.", line=1),
    conversation("Which colour has the sky? One word.", "Blue", line=2),
    conversation("明天开门吗？", "明天九点开门", line=3),
    conversation("Write <b>now</b>", "<b>now</b>", line=4),
]


def write_dataset(folder: Path, test: Sequence[Conversation]) -> Artifact:
    folder.mkdir()
    write_conversations(folder / "train.jsonl", CASES)
    write_conversations(folder / "validation.jsonl", CASES[:2])
    write_conversations(folder / "test.jsonl", test)
    report = {"tokens": {"answer": {"max": 6}}}
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return Artifact(path=folder, kind="dataset", digest=digest_tree(folder))


@pytest.fixture(scope="module")
def taken(base_gguf: Path) -> fingerprint.Fingerprint:
    """What the running engine makes of the probes."""

    async def ask(url: str, key: str) -> fingerprint.Fingerprint:
        async with EngineClient(url, key) as client:
            return await fingerprint.take_engine(client, CASES[:2])

    with LlamaCpp(EngineSpec(model=base_gguf, alias="base", context=512, slots=1)) as engine:
        return asyncio.run(ask(engine.url, engine.key))


def write_build(
    root: Path, name: str, model: Path, taken: fingerprint.Fingerprint, size: int
) -> Artifact:
    folder = root / name
    folder.mkdir()
    os.link(model, folder / "model.gguf")
    fingerprint.write_fingerprint(folder, taken)
    build = Build(
        name=name,
        format="gguf",
        file="model.gguf",
        size=size,
        digest=sha256_file(model),
        template_digest=taken.template_digest,
        stop_tokens=taken.stop_tokens,
        fingerprint=taken.digest,
    )
    (folder / "build.json").write_text(to_json(build), encoding="utf-8")
    return Artifact(path=folder, kind="build", digest=sha256_text(name))


@pytest.fixture
def inputs(tmp_path: Path, base_gguf: Path, taken: fingerprint.Fingerprint) -> Inputs:
    model = tmp_path / "model.gguf"
    model.write_bytes(base_gguf.read_bytes())
    sizes = {"base-f16": 300, "f16": 300, "Q4_K_M": 100}
    return Inputs(
        dataset=write_dataset(tmp_path / "dataset", CASES),
        builds={n: write_build(tmp_path, n, model, taken, size) for n, size in sizes.items()},
        name="desk",
        base="SmolLM2-135M-Instruct",
        engine=ENGINE,
    )


def draft(tmp_path: Path, name: str) -> Draft:
    return Store(tmp_path / name).open("gate", "0123", inputs={}, settings={}, seed=0)


def answers_of(inputs: Inputs, out: Draft) -> Path:
    folder = answers_folder(inputs, 16, out.path)
    folder.mkdir()
    return folder


def keep_all(path: Path, answers: Sequence[Answer], seconds: float = 0.3) -> None:
    with path.open("w", encoding="utf-8") as file:
        for one in answers:
            keep(file, one, Timing(ttft=0.1, seconds=seconds))


def answer_all(inputs: Inputs, out: Draft, text: str) -> None:
    """As an earlier run left the answers of all builds: no engine is started."""
    folder = answers_of(inputs, out)
    answers = [Answer(source=c.source, text=text, finish_reason="stop", tokens=3) for c in CASES]
    for name in (*inputs.builds, "Q4_K_M.again"):
        keep_all(folder / f"{name}.jsonl", answers)
        (folder / f"{name}.engine.json").write_text('{"memory": 7, "load": 1.0}', encoding="utf-8")


def verdict_of(tmp_path: Path, name: str, record: Record) -> Artifact:
    return Store(tmp_path / name).output(record, "verdict")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_whole_gate_and_again_after_a_kill(tmp_path: Path, inputs: Inputs) -> None:
    first = run(inputs, GateSettings(), draft(tmp_path, "one"))
    verdict = verdict_of(tmp_path, "one", first)
    assert first.figures["release"] == "Q4_K_M"
    assert (first.figures["kind"], first.figures["cases"]) == ("text", 4)
    rows = {row["build"]: row for row in first.figures["rows"]}
    assert list(rows) == ["base-f16", "f16", "Q4_K_M"]
    assert rows["Q4_K_M"]["relations"] == {"exact": 4, "similar": 0, "different": 0}
    assert rows["base-f16"]["passed"] is None
    for row in rows.values():
        assert row["speed"]["tokens_per_second"] > 0
        assert 0 < row["speed"]["p50"] <= row["speed"]["p95"]
        assert row["speed"]["memory"] > 90e6

    answers = (verdict.path / "answers" / "f16.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["source"] for line in answers] == [c.source for c in CASES]
    assert all(json.loads(line)["text"] for line in answers)
    assert (verdict.path / "answers" / "Q4_K_M.jsonl").read_text(encoding="utf-8") == "".join(
        line + "\n" for line in answers
    )
    scores = read(verdict.path / "scores.json")
    assert "speed" not in scores["rows"][0]
    assert scores["cases"][0]["builds"]["Q4_K_M"]["against_f16"] == "exact"
    assert read(verdict.path / "volatile" / "verdict.json")["release"] == "Q4_K_M"
    assert "desk" in (verdict.path / "volatile" / "report.html").read_text(encoding="utf-8")

    assert first.figures["noise"]["build"] == "Q4_K_M"
    assert first.figures["noise"]["rate"]["n"] == 4

    # What a run that was killed in its second build leaves: a line that was cut off, and scraps.
    second = draft(tmp_path, "two")
    left = answers_of(inputs, second)
    for name, count in (("base-f16", 4), ("f16", 2)):
        text = (verdict.path / "answers" / f"{name}.jsonl").read_text(encoding="utf-8")
        keep_all(
            left / f"{name}.jsonl",
            [Answer(**json.loads(t)) for t in text.splitlines()[:count]],
            3e3,
        )
    with (left / "f16.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"answer": {"sou')
    (left / "base-f16.engine.json").write_text('{"memory": 7, "load": 1.0}', encoding="utf-8")
    (second.path / "verdict").mkdir()
    (second.path / "verdict" / ".scores.json.99").write_text("half", encoding="utf-8")
    again = run(inputs, GateSettings(), second)
    assert verdict_of(tmp_path, "two", again).digest == verdict.digest
    resumed = {row["build"]: row["speed"] for row in again.figures["rows"]}
    assert resumed["base-f16"]["memory"] == 7 and resumed["f16"]["memory"] > 90e6
    assert resumed["f16"]["p95"] == 3e3 > resumed["f16"]["p50"] > 0 < resumed["Q4_K_M"]["load"]
    assert not left.exists()


def test_a_specialist_no_better_than_its_base_is_not_released(
    tmp_path: Path, inputs: Inputs
) -> None:
    out = draft(tmp_path, "one")
    answer_all(inputs, out, "Yes.")
    record = run(inputs, SETTINGS, out)
    assert record.figures["release"] is None
    assert "the specialist itself does not reach the thresholds" in record.figures["verdict"]
    f16 = record.figures["rows"][1]
    assert f16["passed"] is False and "lead over the base model" in f16["reason"]
    assert f16["rates"]["gain"]["value"] == 0.0
    assert f16["rates"]["exact"]["value"] == 0.25


def test_a_model_file_that_changed_is_not_asked(tmp_path: Path, inputs: Inputs) -> None:
    path = inputs.builds["base-f16"].path / "model.gguf"
    with path.open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(bytes(64))
    with pytest.raises(EngineLoadError, match="SHA-256"):
        run(inputs, GateSettings(), draft(tmp_path, "one"))


def test_an_engine_that_answers_otherwise_than_the_build_is_caught(
    tmp_path: Path, inputs: Inputs, taken: fingerprint.Fingerprint
) -> None:
    other = replace(taken, template_digest=sha256_text("another template"))
    fingerprint.write_fingerprint(inputs.builds["base-f16"].path, other)
    with pytest.raises(FingerprintError, match="serving base-f16: template"):
        run(inputs, GateSettings(), draft(tmp_path, "one"))


def test_a_prompt_over_the_context_names_its_case(tmp_path: Path, inputs: Inputs) -> None:
    long = conversation("knee " * 600, "Yes.", line=9)
    dataset = write_dataset(tmp_path / "long", [long])
    with pytest.raises(EngineRejected, match=r"desk\.jsonl:9: .*context"):
        run(replace(inputs, dataset=dataset), GateSettings(), draft(tmp_path, "one"))


def test_thresholds_are_checked_before_anything_is_asked(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", CASES)
    assert check(dataset.path, GateSettings(similarity=0.5)) == "text"
    with pytest.raises(SettingsError, match=r"gate\.valid_json is set"):
        check(dataset.path, GateSettings(valid_json=0.9))


def test_an_empty_test_split_is_refused(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", [])
    inputs = Inputs(dataset=dataset, builds={}, name="desk", base="x", engine=ENGINE)
    with pytest.raises(DataError, match="the test split is empty"):
        run(inputs, GateSettings(), draft(tmp_path, "one"))


def test_the_limit_of_tokens_follows_the_longest_learnt_answer(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "dataset", CASES).path
    assert max_tokens(folder, GateSettings(max_tokens=7)) == 7
    assert max_tokens(folder, GateSettings()) == 16
    (folder / "report.json").write_text('{"tokens": {"answer": {"max": 33}}}', encoding="utf-8")
    assert max_tokens(folder, GateSettings()) == 50
    (folder / "report.json").write_text("{}", encoding="utf-8")
    with pytest.raises(StorageError, match=r"report\.json: damaged"):
        max_tokens(folder, GateSettings())


SCORER = """
def score(messages, answer, reference):
    if reference == "Blue":
        raise ValueError("no colours")
    return {"polite": 1.0, "short": 0.5}
"""


def test_a_scorer_that_raises_loses_nothing(tmp_path: Path, inputs: Inputs) -> None:
    out = draft(tmp_path, "one")
    answer_all(inputs, out, "Yes.")
    given = replace(inputs, workspace=tmp_path)
    settings = GateSettings(scorer="mine.py:score", score=0.8)
    (tmp_path / "mine.py").write_text(SCORER, encoding="utf-8")
    with pytest.raises(DataError, match=r"1 of 4 answers of base-f16.*mine\.py:4.*no colours"):
        run(given, settings, out)
    (tmp_path / "mine.py").write_text(SCORER.replace("Blue", "Red"), encoding="utf-8")
    record = run(given, settings, out)  # without an engine still
    rows = {row["build"]: row for row in record.figures["rows"]}
    assert rows["f16"]["rates"]["score"]["value"] == 0.75
    assert "score of your own scorer 0.750 is below 0.8" in rows["f16"]["reason"]


def test_recorded_answers_are_a_row_of_the_table(tmp_path: Path, inputs: Inputs) -> None:
    out = draft(tmp_path, "one")
    answer_all(inputs, out, "Yes.")
    recorded = {
        n: Answer(source=c.source, text=c.answer, finish_reason="stop", tokens=0)
        for n, c in enumerate(CASES[:3])
    }
    settings = GateSettings(recorded="answers.jsonl", worse_than_api=0.1)
    record = run(replace(inputs, api=Baseline(answers=recorded)), settings, out)
    *builds, api = record.figures["rows"]
    assert (api["build"], api["passed"], api["rates"]["exact"]["value"]) == ("api", None, 1.0)
    assert api["rates"]["exact"]["n"] == 3
    assert record.figures["release"] is None
    assert "by no more than 0.1 is not shown" in builds[1]["reason"]
    scores = read(verdict_of(tmp_path, "one", record).path / "scores.json")
    assert scores["cases"][0]["builds"]["f16"]["against_api"] == "exact"
    assert "api" not in scores["cases"][3]["builds"]


def test_after_a_failure_of_the_api_no_build_is_asked_again(tmp_path: Path, inputs: Inputs) -> None:
    out = draft(tmp_path, "one")
    answer_all(inputs, out, "Yes.")
    said = {
        n: Answer(source=c.source, text=c.answer, finish_reason="stop", tokens=3)
        for n, c in enumerate(CASES)
    }
    down = Baseline(answers={0: said[0]}, failures=dict.fromkeys((1, 2, 3), "the API failed"))
    record = run(replace(inputs, api=down), GateSettings(), out)
    api = record.figures["rows"][-1]
    assert (api["build"], api["rates"]["exact"]["n"]) == ("api", 1)
    assert "no answer to 3 cases, the first desk.jsonl:2: the API failed" in api["reason"]
    store = Store(tmp_path / "one")
    second = store.open("gate", "4567", inputs={}, settings={}, seed=0)
    again = run(replace(inputs, api=Baseline(answers=said)), GateSettings(), second)
    assert again.figures["rows"][-1]["rates"]["exact"]["n"] == 4
    assert again.figures["rows"][1]["speed"]["memory"] == 7  # no engine was started
    assert not list((store.root / "work").iterdir())


def test_a_level_whose_engine_fails_is_alone_in_it(tmp_path: Path, inputs: Inputs) -> None:
    out = draft(tmp_path, "one")
    answer_all(inputs, out, "Yes.")
    (answers_folder(inputs, 16, out.path) / "Q4_K_M.engine.json").unlink()
    (inputs.builds["Q4_K_M"].path / "model.gguf").unlink()
    record = run(inputs, GateSettings(), out)
    assert record.figures["release"] == "f16"
    assert "there is no such model file" in record.figures["rows"][2]["reason"]


def test_a_level_of_nan_is_alone_in_it(tmp_path: Path, inputs: Inputs, base_gguf: Path) -> None:
    out = draft(tmp_path, "one")
    answer_all(inputs, out, "Yes.")
    (answers_folder(inputs, 16, out.path) / "Q4_K_M.engine.json").unlink()
    folder = inputs.builds["Q4_K_M"].path
    broken = folder / "model.gguf"
    broken.unlink()
    broken.write_bytes(base_gguf.read_bytes())
    overwritten(broken, "blk.5.attn_norm.weight", struct.pack("<f", math.nan))
    build = read(folder / "build.json") | {"digest": sha256_file(broken)}
    (folder / "build.json").write_text(json.dumps(build), encoding="utf-8")
    record = run(inputs, GateSettings(), out)
    assert record.figures["release"] == "f16"
    assert "NaN" in record.figures["rows"][2]["reason"]


@pytest.mark.slow
def test_all_that_can_be_asked_for(tmp_path: Path, inputs: Inputs) -> None:
    settings = GateSettings(users=[1, 2], divergence=True, forgetting=True)
    out = draft(tmp_path, "one")
    record = run(inputs, settings, out)
    level = record.figures["rows"][2]
    assert [one["users"] for one in level["load"]] == [1, 2]
    assert all(0 < one["ttft"] <= one["p95"] for one in level["load"])
    assert level["divergence"]["answers"]["same_top"]["value"] == 1.0
    assert level["divergence"]["answers"]["kld"]["value"] == 0.0
    assert record.figures["forgetting"]["gain"]["value"] == 0.0
    assert record.figures["forgetting"]["base"]["value"] > 0.3
