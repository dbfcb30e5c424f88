"""The tokens of a text as a person can read them, and which of them make a word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from residency.words import unspaced

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One token: `text` is what it says, empty where it is only a part of a character; `bytes` is
    that part in hex, and `of` the character, where the text has it whole. A `special` token is no
    text but a mark of the model's own.
    """

    id: int
    text: str
    bytes: str = ""
    of: str = ""
    special: bool = False


class Reader:
    """Says what token ids of a tokenizer say."""

    def __init__(self, tokenizer: Any) -> None:
        from transformers.convert_slow_tokenizer import bytes_to_unicode

        self._tokenizer = tokenizer
        self._special = set(tokenizer.all_special_ids)
        decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
        self._bytes: dict[str, int] = {}
        if "ByteLevel" in repr(decoder):
            alphabet = bytes_to_unicode()  # type: ignore[no-untyped-call]
            self._bytes = {char: byte for byte, char in alphabet.items()}

    def piece(self, token: int) -> Piece:
        """What one token says by itself."""
        raw = self._tokenizer.convert_ids_to_tokens(token)
        if raw is None:  # models have more rows than their tokenizer has tokens
            return Piece(id=token, text=f"(unused {token})", special=True)
        if token in self._special:
            return Piece(id=token, text=str(raw), special=True)
        said = self._said(str(raw))
        try:
            return Piece(id=token, text=said.decode())
        except UnicodeDecodeError:
            return Piece(id=token, text="", bytes=said.hex(" "))

    def pieces(self, tokens: Iterable[int]) -> tuple[Piece, ...]:
        """The same of a text's tokens, where those that share a character know it."""
        found = [self.piece(token) for token in tokens]
        start = 0
        while start < len(found):
            end = start + 1
            if found[start].bytes:
                end, char = _whole(found, start)
                for place in range(start, end):
                    found[place] = replace(found[place], of=char)
            start = end
        return tuple(found)

    def _said(self, raw: str) -> bytes:
        if self._bytes and all(char in self._bytes for char in raw):
            return bytes(self._bytes[char] for char in raw)
        if byte := _BYTE.fullmatch(raw):
            return bytes([int(byte[1], 16)])
        return raw.replace("▁", " ").encode()


def _whole(found: Sequence[Piece], start: int) -> tuple[int, str]:
    """Where the shortest run of partial tokens from `start` ends that is whole characters, and
    these; empty, after one token, where none is."""
    said = b""
    for end in range(start, len(found)):
        if not found[end].bytes:
            break
        said += bytes.fromhex(found[end].bytes)
        try:
            return end + 1, said.decode().strip()
        except UnicodeDecodeError:
            continue
    return start + 1, ""


def spelt(pieces: Sequence[Piece]) -> str:
    """What tokens say together; bytes that are no whole character become U+FFFD."""
    return b"".join(bytes.fromhex(p.bytes) or p.text.encode() for p in pieces).decode(
        errors="replace"
    )


def words(pieces: Sequence[Piece]) -> tuple[tuple[int, int], ...]:
    """From which token to before which one each word goes; special tokens are in none.

    A word begins at a space, where letters begin or end, and with each character of a script
    without spaces.
    """
    found: list[tuple[int, int]] = []
    before, half = "", b""  # the text of the token before, and what there is of a character
    for place, piece in enumerate(pieces):
        if piece.special:
            before, half = "", b""
            continue
        text = piece.text or piece.of
        if before and (half or not _begins(before, text)):
            found[-1] = (found[-1][0], place + 1)
        else:
            found.append((place, place + 1))
        half = _unfinished(half + bytes.fromhex(piece.bytes)) if piece.bytes else b""
        before = text or "�"
    return tuple(found)


def _unfinished(said: bytes) -> bytes:
    try:
        said.decode()
    except UnicodeDecodeError:
        return said
    return b""


def _begins(before: str, text: str) -> bool:
    first, last = text[:1], before[-1:]
    if not first or first.isspace() or last.isspace() or unspaced(first) or unspaced(last):
        return True
    return (first.isalnum() or first == "'") != (last.isalnum() or last == "'")
