"""A model that begins from nothing: a tokenizer of its own data, and weights that know nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from residency.config import TrainSettings
from residency.conversations import stream_conversations
from residency.models.cache import build_once
from residency.models.own_tokenizer import BYTES, write_tokenizer
from residency.progress import say
from residency.train.rows import paragraphs
from residency.train.sizing import OwnShape, own_shape

# A vocabulary takes width weights a token, and a token must be seen often to be learnt: one for
# each so many bytes of text, within what small models use.
_BYTES_A_TOKEN = 100
_VOCABULARY = (512, 16_384)
_CONTEXT = 2048


def begin(dataset: Path, settings: TrainSettings, corpus: Path | None, folder: Path) -> Path:
    """A Hugging Face folder with a new tokenizer and random weights, in `folder`.

    The tokenizer is learnt from the training split and from `corpus` alone: what is held out stays
    unseen. The same inputs give the same bytes.
    """
    return build_once(folder, lambda draft: _fill(dataset, settings, corpus, draft))


def _fill(dataset: Path, settings: TrainSettings, corpus: Path | None, folder: Path) -> None:
    size = sum(len(text.encode()) for text in _texts(dataset, corpus))
    fewest, most = _VOCABULARY
    wanted = settings.vocabulary or min(most, max(fewest, BYTES + size // _BYTES_A_TOKEN))
    vocabulary = write_tokenizer(_texts(dataset, corpus), wanted, folder)
    shape = own_shape(settings.parameters, vocabulary)
    say(
        f"  a new model: {shape.weights / 1e6:.1f}M weights in {shape.layers} layers of width "
        f"{shape.width}, {vocabulary} tokens learnt from {size:,} bytes"
    )
    _write_model(shape, settings.seed, folder)


def _texts(dataset: Path, corpus: Path | None) -> Iterator[str]:
    for one in stream_conversations(dataset / "train.jsonl"):
        for message in one.messages:
            yield message.content
    if corpus:
        yield from paragraphs(corpus)


def _write_model(shape: OwnShape, seed: int, folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=True,
        # Keeps the size of what passes through a layer; the usual 0.02 is that of width 2,500.
        initializer_range=round(shape.width**-0.5, 4),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
