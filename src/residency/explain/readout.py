"""From a state of the stream to tokens: the final norm, the output matrix, and what comes after.

Asked of a state between layers this is the logit lens (nostalgebraist 2020). Whether it is all
that the model does is checked on the last state, where it must give the model's own logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from residency.explain.anatomy import Anatomy
from residency.explain.recording import Recording

if TYPE_CHECKING:
    from torch import Tensor

_EXACT = 1e-3  # of logits; the sums are the same, in another order
_ROWS = 128  # states at once: 134 MB of logits for a vocabulary of 262,144


@dataclass(frozen=True, kw_only=True, slots=True)
class Lens:
    """After the embeddings and each layer, and each token of the text: the `most` likeliest next
    tokens with their probabilities (layers + 1, T, most), and how likely what the whole model puts
    first is there (layers + 1, T)."""

    ids: NDArray[np.int_]
    shares: NDArray[np.float32]
    answer: NDArray[np.float32]


class Readout:
    """`read` says what logits a state of the stream would give."""

    def __init__(self, model: Any, anatomy: Anatomy) -> None:
        self._head = model.get_output_embeddings()
        self._norm = anatomy.final_norm
        self._cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)

    def read(self, states: Tensor) -> Tensor:
        """Logits (..., vocabulary) of states (..., width) that are before the final norm."""
        import torch

        normed = self._norm(states) if self._norm is not None else states
        logits: Tensor = self._head(normed).float()
        return torch.tanh(logits / self._cap) * self._cap if self._cap else logits

    def holds(self, recording: Recording) -> bool:
        """Whether the last state gives the logits that the model itself gave."""
        import torch

        if self._head is None or self._norm is None or recording.logits is None:
            return False
        found = self.read(recording.states[-1])
        return bool(torch.allclose(found, recording.logits, rtol=_EXACT, atol=_EXACT))


def lens(readout: Readout, states: Sequence[Tensor], logits: Tensor, most: int = 5) -> Lens:
    """What each layer would answer; `logits` (T, vocabulary) are the model's own."""
    import torch

    # The last state is known: what the model says is not computed twice.
    rows = torch.cat(list(states[:-1]))
    answer = logits.argmax(dim=-1, keepdim=True)
    answers = answer.repeat(len(states) - 1, 1)
    parts = [
        _best(readout.read(rows[start : start + _ROWS]), answers[start : start + _ROWS], most)
        for start in range(0, len(rows), _ROWS)
    ]
    parts.append(_best(logits, answer, most))
    ids, of_best, of_answer = (torch.cat(one).numpy() for one in zip(*parts, strict=True))
    shape = (len(states), len(logits))
    return Lens(
        ids=ids.reshape(*shape, most),
        shares=of_best.reshape(*shape, most),
        answer=of_answer.reshape(shape),
    )


def _best(logits: Tensor, answer: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids and probabilities of the likeliest, and the probability of `answer`, in each row."""
    total = logits.logsumexp(dim=-1, keepdim=True)
    best = logits.topk(most, dim=-1)
    likely = (logits.gather(-1, answer) - total).exp()[:, 0]
    return best.indices, (best.values - total).exp(), likely
