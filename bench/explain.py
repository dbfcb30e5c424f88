"""How long does `residency explain` look at 30 tokens, beside a plain pass of transformers?

The plain pass is what a notebook does: eager attention with `output_attentions` and
`output_hidden_states`. Ours keeps more, asks each layer for an answer, and leaves every word out
once. Importing and loading are shown apart; the model's files have been read once before.

    python bench/explain.py [MODEL]
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

from residency.config import DEFAULT_BASE
from residency.explain.explanation import explain
from residency.explain.model import open_model
from residency.models.base import resolve

TEXT = (
    "We sat on the river bank and watched the boats go by. After that I went to the bank in the "
    "town and put some of my money into"
)
ROUNDS = 5


def main() -> None:
    """Print seconds: the median of the rounds."""
    base = resolve(sys.argv[1] if len(sys.argv) > 1 else DEFAULT_BASE)
    opened = open_model(base.path, base.name)
    import torch
    from transformers import AutoModelForCausalLM

    plain: Any = AutoModelForCausalLM.from_pretrained(
        base.path, dtype=torch.float32, attn_implementation="eager"
    )
    plain.eval()
    ids = opened.tokenizer(TEXT, return_tensors="pt")["input_ids"]
    ours, theirs, spent = [], [], []
    for _ in range(ROUNDS):
        cpu = time.process_time()
        ours.append(explain(opened, TEXT).seconds)
        spent.append(time.process_time() - cpu)
        start = time.perf_counter()
        with torch.no_grad():
            plain(ids, use_cache=False, output_attentions=True, output_hidden_states=True)
        theirs.append(time.perf_counter() - start)
    mine, other = statistics.median(ours), statistics.median(theirs)
    print(f"{base.name}, {ids.shape[1]} tokens, {torch.get_num_threads()} threads, {ROUNDS} rounds")
    print(f"import {opened.importing:.2f} s, load {opened.loading:.2f} s")
    print(
        f"explain {mine:.2f} s ({min(ours):.2f} to {max(ours):.2f}), "
        f"{statistics.median(spent):.2f} s of processor time"
    )
    print(f"one plain pass {other:.2f} s ({min(theirs):.2f} to {max(theirs):.2f})")
    print(f"ratio {mine / other:.1f}")


if __name__ == "__main__":
    main()
