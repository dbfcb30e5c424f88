"""Conversations as token ids in files that are mapped into memory, however many there are."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from residency.conversations import stream_conversations
from residency.errors import DataError
from residency.models.chat import render, render_turns, shorten
from residency.progress import track
from residency.train.batch import IGNORED, Row, common_start
from residency.types import Conversation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turns = Literal["last", "all"]
_AT_ONCE = 512  # rows that are encoded before they are written
# A mean over so many answers tells losses of 1% apart; more would only take time, twice an epoch.
_VALIDATED = 500
_META = "rows.json"
_BLOCK = 256  # tokens of a row of running text


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """`train` and `validation` are datasets of `input_ids` and `labels`, read from the disk.

    `lengths` are those of the training rows, in tokens; all rows begin with the same `prefix`
    tokens. `shortened` rows lost their oldest turns or the beginning of their question, and
    `left_out` ones had an answer that is too long by itself.
    """

    train: Any
    validation: Any
    lengths: Sequence[int]
    prefix: int
    shortened: int
    left_out: int


def encode(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Iterable[Conversation],
    turns: Turns = "last",
) -> Iterator[dict[str, list[int]]]:
    """Each conversation as `input_ids` and `labels`, -100 wherever there is nothing to learn."""
    for one in conversations:
        if turns == "all":
            got = render_turns(tokenizer, one.messages, one.tools)
        else:
            got = render(tokenizer, one.messages, answer=True, tools=one.tools)
        labels = [i if keep else IGNORED for i, keep in zip(got.ids, got.learnt, strict=True)]
        yield {"input_ids": list(got.ids), "labels": labels}


def write_rows(
    tokenizer: PreTrainedTokenizerBase,
    dataset: Path,
    folder: Path,
    turns: Turns,
    length: int,
    more: Iterable[Row] = (),
) -> Rows:
    """Encode the splits of `dataset` into `folder`, no row longer than `length` tokens (0: any).
    `more` are training rows that are encoded already.

    Raises `DataError` where nothing is left to learn from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoder = _Encoder(tokenizer, turns, length)
    counts = {}
    for split, most in (("train", None), ("validation", _VALIDATED)):
        conversations = stream_conversations(dataset / f"{split}.jsonl")
        rows = encoder.rows(conversations, most)
        if split == "train":
            rows = itertools.chain(rows, encoder.passed(more))
        counts[split] = _write(folder / f"{split}.arrow", rows)
    if not all(counts.values()):
        raise DataError(
            f"{dataset}: no row has an answer of less than {length} tokens",
            hint="train with longer rows, or shorten the examples",
        )
    meta = {
        "prefix": len(encoder.start or ()),
        "shortened": encoder.shortened,
        "left_out": encoder.left_out,
    }
    (folder / _META).write_text(json.dumps(meta), encoding="utf-8")
    return open_rows(folder)


def open_rows(folder: Path) -> Rows:
    """What `write_rows` left in `folder`."""
    from datasets import Dataset

    splits = {
        split: Dataset.from_file(str(folder / f"{split}.arrow"))
        for split in ("train", "validation")
    }
    return Rows(
        train=splits["train"],
        validation=splits["validation"],
        lengths=_lengths(splits["train"]),
        **json.loads((folder / _META).read_text(encoding="utf-8")),
    )


class _Encoder:
    """Encodes rows, and keeps count of what it did to the long ones; `start` is what all share."""

    def __init__(self, tokenizer: Any, turns: Turns, length: int) -> None:
        self.tokenizer, self.turns, self.length = tokenizer, turns, length
        self.start: Sequence[int] | None = None
        self.shortened = self.left_out = 0

    def rows(self, conversations: Iterable[Conversation], most: int | None) -> Iterator[Row]:
        for number, one in enumerate(track(conversations, "encoding rows")):
            if number == most:
                return
            if row := self._row(one):
                self.start = common_start(self.start, row)
                yield row

    def passed(self, rows: Iterable[Row]) -> Iterator[Row]:
        """`rows` as they are, of which count is kept like of the others."""
        for row in rows:
            self.start = common_start(self.start, row)
            yield row

    def _row(self, one: Conversation) -> Row | None:
        (row,) = encode(self.tokenizer, [one], self.turns)
        if not self.length or len(row["input_ids"]) <= self.length:
            return row
        kept = shorten(self.tokenizer, one.messages, self.length, one.tools)
        if kept is None:
            self.left_out += 1
            return None
        self.shortened += 1
        (row,) = encode(self.tokenizer, [dataclasses.replace(one, messages=kept)], self.turns)
        return row


def rows_of_text(tokenizer: PreTrainedTokenizerBase, corpus: Path) -> Iterator[Row]:
    """A text file packed into rows of `_BLOCK` tokens, all learnt; paragraphs end with the token
    that ends a turn. Raises `DataError` where it cannot be read."""
    ids: list[int] = []
    for paragraph in paragraphs(corpus):
        ids += [
            *tokenizer(paragraph, add_special_tokens=False)["input_ids"],
            tokenizer.eos_token_id,
        ]
        while len(ids) > _BLOCK:
            yield {"input_ids": ids[:_BLOCK], "labels": ids[:_BLOCK]}
            ids = ids[_BLOCK:]
    if len(ids) > 1:
        yield {"input_ids": ids, "labels": ids}


def paragraphs(corpus: Path) -> Iterator[str]:
    """The paragraphs of a text file. Raises `DataError` where it cannot be read."""
    try:
        text = corpus.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{corpus}: cannot be read: {error}", hint="see [train] corpus") from None
    yield from (block for block in text.split("\n\n") if block.strip())


def _write(path: Path, rows: Iterable[Row]) -> int:
    """Write rows as an Arrow stream, a few hundred at a time, and count them."""
    import pyarrow as pa

    schema = pa.schema([(name, pa.list_(pa.int32())) for name in ("input_ids", "labels")])
    count, held = 0, list[Row]()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for row in rows:
            held.append(row)
            count += 1
            if len(held) == _AT_ONCE:
                stream.write_batch(pa.RecordBatch.from_pylist(held, schema))
                held = []
        stream.write_batch(pa.RecordBatch.from_pylist(held, schema))
    return count


def _lengths(dataset: Any) -> list[int]:
    import pyarrow.compute

    lengths = pyarrow.compute.list_value_length(dataset.data.column("input_ids"))
    return [int(n) for n in lengths.to_pylist()]
