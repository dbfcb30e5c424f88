"""lm-eval and inspect-ai, as their users run them, measure of a served build what we do.

Each is installed into an environment of its own beside the engines'.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from residency.engines.environments import Environment, install
from tests.e2e.conftest import WANTS, residency

LM_EVAL = Environment(
    name="lm-eval", packages=("lm_eval[api]==0.4.13",), test="lm_eval", size=400_000_000
)
INSPECT = Environment(
    name="inspect",
    packages=("inspect-ai==0.3.285", "openai"),
    test="inspect_ai",
    size=250_000_000,
)
MODEL = "tiny-desk"
TOKENS = 12
STRANGE = ("parcel", "key", "coat", "bag", "seat", "lamp")
TASK = """
task: shared
dataset_path: json
dataset_kwargs:
  data_files: {{test: {file}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{completion}}}}"
generation_kwargs: {{until: [], max_gen_toks: {tokens}, temperature: 0.0}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""
INSPECT_TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.scorer import exact
from inspect_ai.solver import generate


@task
def shared():
    fields = FieldSpec(input="prompt", target="completion")
    return Task(dataset=json_dataset({file!r}, fields), solver=generate(), scorer=exact())
"""


@pytest.fixture(scope="module")
def workspace(chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chain with a release at Q8_0. At lower levels llama.cpp's answer depends a little on how
    much of a prompt it has in its cache, and each client asks in an order of its own."""
    folder = tmp_path_factory.mktemp("evaluators") / "desk"
    shutil.copytree(chain[0], folder)
    settings = folder / "residency.toml"
    settings.write_text(settings.read_text().replace('["Q8_0", "Q4_K_M"]', '["Q8_0"]'))
    assert json.loads(residency("run", "--workspace", folder, "--json").stdout)["release"] == "Q8_0"
    return folder


@pytest.fixture(scope="module")
def url(workspace: Path) -> Iterator[str]:
    """The release behind its endpoint."""
    command = [sys.executable, "-m", "residency", "serve", "--port", "0"]
    with subprocess.Popen(
        [*command, "--workspace", str(workspace)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield f"{json.loads(process.stdout.readline())['url']}/v1"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def cases(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task whose accuracy is neither 0 nor 1: of three references two are what is answered."""
    # None was trained on: `compare` would leave it out.
    prompts = [f"{want} {subject}" for subject in STRANGE for want in WANTS[:2]]
    rows = []
    with openai.OpenAI(base_url=url, api_key="any") as client:
        for number, prompt in enumerate(prompts):
            said = client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": prompt}],
                max_tokens=TOKENS,
                temperature=0,
            )
            text = said.choices[0].message.content or ""
            assert text.strip()
            rows.append({"prompt": prompt, "completion": text if number % 3 else "none of these"})
    path = tmp_path_factory.mktemp("shared") / "cases.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def ours(workspace: Path, url: str, cases: Path) -> float:
    """The accuracy by `residency compare`, for the build and for its endpoint."""
    assert f"max_tokens = {TOKENS}" in (workspace / "residency.toml").read_text()
    done = residency(
        *("compare", "current", url, "--model", MODEL, "--file", cases),
        *("--workspace", workspace, "--json"),
    )
    build, served = json.loads(done.stdout)["sides"]
    assert build["rates"]["exact"] == served["rates"]["exact"]
    found = build["rates"]["exact"]["value"]
    assert 0.5 < found < 0.8
    return float(found)


def offline(**more: str) -> dict[str, str]:
    return os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"} | more


def run(*words: str, folder: Path, env: dict[str, str]) -> None:
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_lm_eval(url: str, cases: Path, ours: float, tmp_path: Path) -> None:
    (tmp_path / "shared.yaml").write_text(TASK.format(file=cases, tokens=TOKENS))
    run(
        *(str(install(LM_EVAL) / "bin" / "lm_eval"), "run", "--model", "local-chat-completions"),
        *("--model_args", f"model={MODEL},base_url={url}/chat/completions,num_concurrent=1"),
        *("--tasks", "shared", "--include_path", str(tmp_path), "--apply_chat_template"),
        *("--output_path", str(tmp_path / "out")),
        folder=tmp_path,
        env=offline(OPENAI_API_KEY="any"),
    )
    found = read(next((tmp_path / "out").rglob("results_*.json")))["results"]["shared"]
    print(f"lm-eval: exact match {found['exact_match,none']}, residency compare: {ours}")
    assert found["exact_match,none"] == pytest.approx(ours)


@pytest.mark.slow
def test_inspect(url: str, cases: Path, ours: float, tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(INSPECT_TASK.format(file=str(cases)))
    run(
        *(str(install(INSPECT) / "bin" / "inspect"), "eval", "shared.py"),
        *("--model", f"openai-api/desk/{MODEL}", "--temperature", "0"),
        *("--max-tokens", str(TOKENS), "--max-connections", "1", "--display", "none"),
        *("--log-dir", str(tmp_path / "logs"), "--log-format", "json"),
        folder=tmp_path,
        env=offline(DESK_API_KEY="any", DESK_BASE_URL=url),
    )
    log = read(next((tmp_path / "logs").glob("*.json")))
    assert log["status"] == "success"
    metrics = log["results"]["scores"][0]["metrics"]
    print(f"inspect-ai: exact {metrics['mean']['value']}, residency compare: {ours}")
    assert metrics["mean"]["value"] == pytest.approx(ours)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
