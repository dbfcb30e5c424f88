"""The records of a text file, one at a time: JSON lines, JSON arrays, and JSON values one after
another, plain or compressed."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from residency.errors import DataError
from residency.traffic.logs.values import decoded

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LONGEST = 64 << 20
"""Bytes of one record; what is longer is rejected, so that memory stays bounded."""
CHUNK = 1 << 20
_scan = json.JSONDecoder().raw_decode
_BETWEEN = re.compile(r"[\s,\[\]]*")
_FIRST_KEY = re.compile(r'\{\s*"[^"\\]*"')


@dataclass(frozen=True, slots=True)
class Rejected:
    """What cannot be used. `line` counts from 1; in Parquet and SQLite it is the row."""

    line: int
    reason: str


Found = tuple[int, Any, bytes] | Rejected
"""The line that a record begins on, the record, and its bytes, by which it is known again. None for
the record: `parsed` makes it of the bytes, where there is a core for that."""


def unpacked(path: Path) -> io.BufferedReader:
    """The bytes of `path`, out of gzip or Zstandard where they begin as such. Raises `DataError`;
    reading raises `OSError`, also where compressed data is damaged."""
    try:
        file: io.BufferedReader = io.BufferedReader(io.FileIO(path), CHUNK)
        magic = file.peek(4)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if magic.startswith(b"\x1f\x8b"):
        file.close()
        stream = cast(BinaryIO, gzip.GzipFile(path))
        return io.BufferedReader(_Unpacked(stream, (EOFError, zlib.error)), CHUNK)
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        stream = cast(BinaryIO, reader)
        return io.BufferedReader(_Unpacked(stream, (zstandard.ZstdError,)), CHUNK)
    return file


class _Unpacked(io.RawIOBase):
    def __init__(self, stream: BinaryIO, damage: tuple[type[Exception], ...]) -> None:
        self._stream = stream
        self._damage = damage

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        try:
            data = self._stream.read(len(view))
        except self._damage as error:
            raise OSError("compressed data is damaged or ends early") from error
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def parsed(found: Found) -> Found:
    """`found` with its record, if that was left as bytes."""
    if isinstance(found, Rejected) or found[1] is not None:
        return found
    line, _, raw = found
    try:
        return line, decoded(raw), raw
    except ValueError as error:
        return Rejected(line, f"not JSON: {error}")


def json_lines(stream: io.BufferedReader) -> Iterator[Found]:
    """A JSON value on each line; empty lines count, but give nothing."""
    number = 0
    while line := stream.readline(LONGEST):
        number += 1
        if len(line) == LONGEST and not line.endswith(b"\n"):
            while (rest := stream.readline(LONGEST)) and not rest.endswith(b"\n"):
                pass
            yield Rejected(number, f"longer than {LONGEST >> 20} MiB")
        elif line := line.removeprefix(codecs.BOM_UTF8).strip():
            yield number, None, line


def json_values(stream: io.BufferedReader) -> Iterator[Found]:
    """The elements of arrays, and values that follow one another, over any number of lines."""
    return iter(_Values(stream))


class _Values:
    """A window on the text. Bytes that are no UTF-8 pass through it, for `parsed` to find."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._text = ""
        self._at = 0
        self._line = 1

    def __iter__(self) -> Iterator[Found]:
        while self._skipped():
            yield self._value()

    def _filled(self) -> bool:
        """Have more text after what is not used yet; False at the end."""
        rest = self._text[self._at :]
        data = self._stream.read(max(CHUNK, len(rest)))
        self._text, self._at = rest + self._decoder.decode(data, final=not data), 0
        return bool(data)

    def _move(self, to: int) -> None:
        self._line += self._text.count("\n", self._at, to)
        self._at = to

    def _skipped(self) -> bool:
        """Go to where the next value begins; False where none does."""
        while True:
            match = _BETWEEN.match(self._text, self._at)
            self._move(match.end() if match else self._at)
            if self._at < len(self._text):
                return True
            if not self._filled():
                return False

    def _value(self) -> Found:
        while True:
            try:
                end = _scan(self._text, self._at)[1]
            except RecursionError:
                return self._rejected("nested too deep", self._at)
            except json.JSONDecodeError as error:
                if not self._cut(error) or len(self._text) - self._at > LONGEST:
                    return self._rejected(f"not JSON: {error.msg}", error.pos)
                if not self._filled():
                    return self._rejected("not JSON: the file ends within it", self._at)
                continue
            raw = self._text[self._at : end].encode(errors="surrogateescape")
            line = self._line
            self._move(end)
            return line, None, raw

    def _cut(self, error: json.JSONDecodeError) -> bool:
        """Whether more text might mend it: a literal or an escape has at most 12 characters."""
        return error.msg.startswith("Unterminated") or error.pos >= len(self._text) - 12

    def _rejected(self, reason: str, where: int) -> Rejected:
        """Go on at what begins with the same key as the value that is wrong, as the records of one
        export do."""
        line = self._line
        key = _FIRST_KEY.match(self._text, self._at)
        name = re.escape(key[0][1:].lstrip()) if key else '"'
        start = re.compile(rf"[\s,\[](?=\{{\s*{name})")
        self._move(max(where, self._at + 1))
        while not (match := start.search(self._text, self._at)):
            # What a chunk's end might cut in two is looked at again.
            self._move(max(self._at, len(self._text) - 200))
            if not self._filled():
                self._move(len(self._text))
                return Rejected(line, reason)
        self._move(match.end())
        return Rejected(line, reason)
