"""GPTQ by llmcompressor, run as a file by the Python of its own environment.

We are not installed there. It takes a file that says what to do (see `export.gptq.make`). Beside
it, `places.json` is then what the model that was written, read again, says of each probe: its
likeliest next tokens.
"""

import json
import sys
from pathlib import Path
from typing import Any


def quantize(spec: dict[str, Any]) -> None:
    """Write the quantized model, in compressed-tensors' form, which vLLM loads."""
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier
    from transformers import AutoModelForCausalLM

    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group"}
    scheme = {"targets": ["Linear"], "weights": {**weights, "group_size": spec["group"]}}
    rows = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in spec["rows"]]
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype="float32")
    oneshot(
        model=model,
        dataset=Dataset.from_list(rows),
        recipe=GPTQModifier(config_groups={"group_0": scheme}, ignore=["lm_head"]),
        max_seq_length=max(len(ids) for ids in spec["rows"]),
        num_calibration_samples=len(rows),
        shuffle_calibration_samples=False,
    )
    model.save_pretrained(spec["target"], save_compressed=True)


def look(spec: dict[str, Any]) -> list[list[list[tuple[int, float]]]]:
    """For each place of each probe the likeliest next tokens, with logs of probabilities."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(spec["target"], dtype=torch.float32)
    model.eval()
    found = []
    for probe in spec["probes"]:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([probe["ids"]])).logits[0]
        places = []
        for length in probe["lengths"]:
            values, ids = torch.log_softmax(logits[length - 1].float(), -1).topk(spec["top"])
            places.append(list(zip(ids.tolist(), values.tolist(), strict=True)))
        found.append(places)
    return found


if __name__ == "__main__":
    asked = Path(sys.argv[1])
    what = json.loads(asked.read_text(encoding="utf-8"))
    quantize(what)
    asked.with_name("places.json").write_text(json.dumps(look(what)), encoding="utf-8")
