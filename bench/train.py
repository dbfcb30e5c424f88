"""Useful tokens a second in training: ours, LLaMA-Factory and the plain recipe, in turn.

    python bench/train.py [--seeds 3] [--rows 320] [--quick] [--without-plain]

All three fine-tune SmolLM2-135M with LoRA (r 16, all linear layers) on the same shipped rows, once
each; a token is useful when it is part of a row, learnt or context, and no padding. The plain
recipe is the tutorials': Hugging Face's Trainer, every row padded to 512 tokens, loss on all of
it, batches of 2 accumulated 8 times. LLaMA-Factory gets our batch and learning rate, and its
padding to the longest row of a batch. Time is that of the trainer's loop. Afterwards one judge, the
same for all, takes the mean loss over the answers of rows that none has seen.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from residency import hardware
from residency.config import DEFAULT_BASE, TrainSettings
from residency.conversations import read_conversations, write_conversations
from residency.engines import environments
from residency.engines.environments import Environment
from residency.models.base import resolve
from residency.models.chat import load_tokenizer
from residency.train.plan import WARM_UP, make_plan, row_order
from residency.train.rows import encode, write_rows
from residency.types import Conversation, Message
from residency.verbs.workspace import RECIPES

LLAMA_FACTORY = Environment(
    name="llama-factory",
    packages=("llamafactory==0.9.5", "torch==2.13.0"),
    # They want another torch; of torchaudio it only asks that it can be imported.
    unwanted=("torchvision", "torchaudio"),
    test="llamafactory",
    size=2_000_000_000,
)
THEIRS = """
import json, sys
from llamafactory.train.tuner import run_exp
spec = json.loads(sys.argv[1])
run_exp({
    "model_name_or_path": spec["base"], "stage": "sft", "do_train": True, "template": "chatml",
    "finetuning_type": "lora", "lora_rank": 16, "lora_alpha": 32, "lora_dropout": 0.0,
    "lora_target": "all", "dataset": "rows", "dataset_dir": spec["folder"], "cutoff_len": 512,
    "preprocessing_num_workers": 1, "output_dir": spec["folder"] + "/out", "report_to": "none",
    "per_device_train_batch_size": spec["batch"], "gradient_accumulation_steps": 1,
    "learning_rate": spec["rate"], "num_train_epochs": 1.0, "lr_scheduler_type": "cosine",
    "warmup_ratio": spec["warm_up"], "bf16": spec["bfloat16"], "use_cpu": True,
    "save_strategy": "no", "logging_steps": 5, "disable_tqdm": True, "seed": spec["seed"],
})
"""
WAYS = ("ours", "LLaMA-Factory", "plain")
HELD_OUT = 100
RATE = 1e-3  # what our plan takes for a model of this size
SYSTEM = "Clinic desk."


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """One run: `folder` has the rows, and gets the adapter."""

    base: str
    folder: str
    batch: int
    seed: int
    bfloat16: bool
    rate: float = RATE
    warm_up: float = WARM_UP

    @property
    def place(self) -> Path:
        return Path(self.folder)

    @property
    def adapter(self) -> Path:
        return self.place / "out"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """`speed` in useful tokens a second; `loss` in nats a token, held out."""

    speed: float
    loss: float


def train_ours(spec: Spec) -> float:
    """Seconds; by the plan of the training stage, without its validations."""
    import torch

    from residency.train import stage, weights
    from residency.train.job import Job
    from residency.train.trainer import make_trainer

    base = Path(spec.base)
    settings = TrainSettings(epochs=1, batch=spec.batch, rank=16, seed=spec.seed)
    tokenizer = load_tokenizer(base)
    rows = write_rows(tokenizer, spec.place, spec.place / "rows", "last", 0)
    plan = make_plan(
        settings, parameters=134_515_008, lengths=rows.lengths, hardware=hardware.read()
    )
    torch.set_num_threads(plan.threads)
    torch.manual_seed(spec.seed)
    model = weights.with_adapter(weights.load(base, plan), plan, settings)
    order = row_order(rows.lengths, epochs=1, batch=plan.batch, seed=spec.seed)
    job = Job(base=base, dataset=spec.place, settings=settings, folder=spec.place)
    how = {**stage.schedule(job, plan, rows, len(order)), "every": 10**9}
    # The trainer validates at the end of a run: one row, as the others validate none.
    splits = {"train": rows.train.select(order), "validation": rows.validation.select(range(1))}
    done = make_trainer(model, tokenizer, splits, plan, how).train()
    weights.save(model, base, spec.adapter)
    return float(done.metrics["train_runtime"])


def train_plain(spec: Spec) -> float:
    """Seconds; as the tutorials have it."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainingArguments,
    )

    tokenizer = load_tokenizer(Path(spec.base))
    texts = [
        tokenizer.apply_chat_template([asdict_message(m) for m in one.messages], tokenize=False)
        for one in read_conversations(spec.place / "train.jsonl")
    ]
    rows = tokenizer(texts, truncation=True, padding="max_length", max_length=512)
    dtype = torch.bfloat16 if spec.bfloat16 else torch.float32
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(spec.base, dtype=dtype),
        LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    arguments = TrainingArguments(
        output_dir=str(spec.place / "checkpoints"),
        num_train_epochs=1,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=8,
        learning_rate=spec.rate,
        lr_scheduler_type="cosine",
        warmup_steps=spec.warm_up,
        use_cpu=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=spec.seed,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(dict(rows)),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    seconds = float(trainer.train().metrics["train_runtime"])
    model.save_pretrained(str(spec.adapter))
    return seconds


def judge(spec: Spec) -> float:
    """Mean loss over the answers of the held-out rows, in float32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(Path(spec.base))
    base = AutoModelForCausalLM.from_pretrained(spec.base, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, spec.adapter).eval()
    total = count = 0.0
    held_out = read_conversations(spec.place / "validation.jsonl")
    with torch.no_grad():
        for row in encode(tokenizer, held_out):
            ids, labels = (torch.tensor([row[name]]) for name in ("input_ids", "labels"))
            learnt = int((labels[:, 1:] >= 0).sum())
            total += float(model(input_ids=ids, labels=labels).loss) * learnt
            count += learnt
    return total / count


def asdict_message(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content or ""}


def rows_of_recipe(count: int) -> tuple[list[Conversation], list[Conversation]]:
    """`count` shipped rows to train on, and others to judge by."""
    lines = (RECIPES / "clinic-desk.jsonl").read_text(encoding="utf-8").splitlines()
    random.Random(17).shuffle(lines)
    found = []
    for number, line in enumerate(lines[: count + HELD_OUT]):
        pair = json.loads(line)
        turns = (("system", SYSTEM), ("user", pair["prompt"]), ("assistant", pair["completion"]))
        messages = tuple(Message(role=role, content=text) for role, text in turns)  # type: ignore[arg-type]
        found.append(Conversation(messages=messages, source=f"recipe:{number}"))
    return found[HELD_OUT:], found[:HELD_OUT]


def lay_out(folder: Path, rows: Sequence[Conversation], held_out: Sequence[Conversation]) -> None:
    """Write the rows as we and as LLaMA-Factory read them."""
    write_conversations(folder / "train.jsonl", rows)
    write_conversations(folder / "validation.jsonl", held_out)
    theirs = [{"messages": [asdict_message(m) for m in one.messages]} for one in rows]
    (folder / "rows.json").write_text(json.dumps(theirs), encoding="utf-8")
    tags = {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
    }
    described = {
        "file_name": "rows.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": tags,
    }
    (folder / "dataset_info.json").write_text(json.dumps({"rows": described}), encoding="utf-8")


def in_child(words: Sequence[str], folder: Path, extra: Mapping[str, str] = {}) -> str:
    """Run a command; what it printed last. Ends with its last words where it fails."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "GOMP_SPINCOUNT": "1000", **extra}
    done = subprocess.run(words, capture_output=True, text=True, env=env, cwd=folder, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def seconds(way: str, spec: Spec) -> float:
    given = json.dumps(asdict(spec))
    if way != "LLaMA-Factory":
        return float(in_child([sys.executable, __file__, "--run", way, given], spec.place))
    stub = spec.place / "stub" / "torchaudio"
    stub.mkdir(parents=True)
    (stub / "__init__.py").touch()
    interpreter = str(environments.python(LLAMA_FACTORY))
    extra = {"PYTHONPATH": str(stub.parent), "DISABLE_VERSION_CHECK": "1"}
    in_child([interpreter, "-c", THEIRS, given], spec.place, extra)
    found = json.loads((spec.adapter / "train_results.json").read_text(encoding="utf-8"))
    return float(found["train_runtime"])


def measure(way: str, seed: int, rows: int, batch: int) -> Run:
    train, held_out = rows_of_recipe(rows)
    base = resolve(DEFAULT_BASE).path
    lengths = [len(row["input_ids"]) for row in encode(load_tokenizer(base), train)]
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder), train, held_out)
        spec = Spec(
            base=str(base),
            folder=folder,
            batch=batch,
            seed=seed,
            bfloat16=hardware.read().fast_bfloat16,
        )
        spent = seconds(way, spec)
        words = [sys.executable, __file__, "--run", "judge", json.dumps(asdict(spec))]
        return Run(speed=sum(lengths) / spent, loss=float(in_child(words, spec.place)))


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="one seed, 48 rows")
    parser.add_argument("--without-plain", action="store_true", help="leave the slowest out")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        way, spec = given.run[0], Spec(**json.loads(given.run[1]))
        print({"ours": train_ours, "plain": train_plain, "judge": judge}[way](spec))
        return
    if given.quick:
        given.seeds, given.rows = 1, 48
    environments.install(LLAMA_FACTORY)
    ways = WAYS[:-1] if given.without_plain else WAYS
    runs: dict[str, list[Run]] = {way: [] for way in ways}
    print(f"{'seed':>4}  {'':14}{'tokens/s':>10}{'held-out loss':>15}")
    for seed in range(17, 17 + given.seeds):
        for way in ways:
            one = measure(way, seed, given.rows, given.batch)
            runs[way].append(one)
            print(f"{seed:4}  {way:14}{one.speed:10.1f}{one.loss:15.4f}", flush=True)
    for way in ways[1:]:
        ratios = [a.speed / b.speed for a, b in zip(runs["ours"], runs[way], strict=True)]
        worse = [a.loss - b.loss for a, b in zip(runs["ours"], runs[way], strict=True)]
        print(f"ours against {way}: {spread(ratios)} times the speed, loss {spread(worse)} higher")


if __name__ == "__main__":
    main()
