"""What is different about training a student: its loss is how far it is from its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from residency.train.batch import IGNORED

# The rest is the answers' own loss: a teacher that was not trained for the task is no authority on
# it, and one that was agrees with the answers (Hinton et al. 2015 weigh both).
TEACHER_SHARE = 0.5


def student_loss(
    model: Any, teacher: Any, inputs: Mapping[str, Any], divergence: Any, count: Any = None
) -> Any:
    """Mean over the answers' tokens of KL(teacher || student), in equal parts with cross-entropy.

    `inputs` are those of `batch.Batches`, `divergence` TRL's `generalized_jsd_loss`, whose `beta` 0
    is that KL. Both models make logits where there is something to learn, and nowhere else.
    """
    import torch
    from torch.nn.functional import cross_entropy

    learnt = inputs["labels"] != IGNORED
    positions = learnt.any(dim=0).nonzero().flatten()
    kept = learnt[:, positions]
    labels = inputs["labels"][:, positions][kept]
    ours = _logits(model, inputs, positions)[kept]
    with torch.no_grad():
        its = _logits(teacher, inputs, positions)[kept]
    by = torch.as_tensor(learnt.sum() if count is None else count).clamp(min=1)
    apart = divergence(ours, its, labels=labels, beta=0.0, num_items_in_batch=by)
    own = cross_entropy(ours, labels, reduction="sum") / by
    return TEACHER_SHARE * apart + (1 - TEACHER_SHARE) * own


def _logits(model: Any, inputs: Mapping[str, Any], positions: Any) -> Any:
    output = model(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        position_ids=inputs["position_ids"],
        logits_to_keep=positions,
        use_cache=False,
    )
    return output.logits.float()


def load_teacher(folder: Path, precision: str) -> Any:
    """The teacher of a Hugging Face folder, which learns nothing itself."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, precision))
    return model.requires_grad_(False).eval()
