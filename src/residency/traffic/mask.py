"""Exchanges without the personal data that `pii` finds, and with a pseudonym for their subject.

A pseudonym is no anonymity: who has the salt can test a guess of whom an exchange is about. That is
what erasure by subject does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from residency.traffic import pii
from residency.types import Exchange

# Tuples and bound methods: these are asked for every value, and others take up to thrice the time.
_LIST, _MAPPING = (list, tuple), (dict, Mapping)
_seed = pii.SEEDS.search
_CODE = re.compile(r"\d[0-9A-Za-z-]{2,}")
_SINGLE_CODE = re.compile(rf"[A-Za-z]{{0,4}}-?({_CODE.pattern})")


def pseudonym(subject: str, salt: bytes) -> str:
    """What stands for `subject` in this workspace: the same for the same subject, empty for none.

    HMAC-SHA-256 (RFC 2104), cut to 128 bits.
    """
    if not subject:
        return ""
    code = subject.encode(errors="backslashreplace")
    return f"subject-{hmac.new(salt, code, hashlib.sha256).hexdigest()[:32]}"


def masked(exchange: Exchange, salt: bytes) -> Exchange:
    """`exchange` with placeholders such as `[EMAIL_1]`: the same value has the same one throughout
    its key, error, request, response and tags. A string that is the subject becomes its
    pseudonym."""
    return masked_and_found(exchange, salt)[0]


def masked_text(text: str) -> str:
    """`text` with the placeholders of its personal data, numbered by itself."""
    hidden: str = _Mask("", "").value(text)
    return hidden


def masked_and_found(exchange: Exchange, salt: bytes) -> tuple[Exchange, Counter[str]]:
    """The same, with how many personal values there are by kind; the same value counts once."""
    mask = _Mask(exchange.subject, pseudonym(exchange.subject, salt))
    hidden = dataclasses.replace(
        exchange,
        key=mask.value(exchange.key),
        subject=mask.alias,
        error=mask.value(exchange.error),
        request=mask.value(exchange.request),
        response=mask.value(exchange.response),
        tags=mask.value(exchange.tags),
    )
    return hidden, mask.counts


def texts(value: Any) -> Iterator[str]:
    """The strings in a body, but for the names of its fields."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from texts(one)


class _Mask:
    """The placeholders of one exchange, and how many of them there are of a kind."""

    def __init__(self, subject: str, alias: str) -> None:
        self.alias = alias
        self._subject = subject
        self._known: dict[tuple[pii.Kind, str], str] = {}
        self._kinds: dict[str, pii.Kind] = {}
        self.counts: Counter[str] = Counter()

    def value(self, value: Any, name: str = "") -> Any:
        """A JSON value; `name` is its field's, which may be the cue that a number needs."""
        if isinstance(value, str):
            if value[:1].isalnum() and value != self._subject and not _seed(value):
                return value  # as most are
            return self._text(value, name)
        if isinstance(value, _MAPPING):
            return {
                self._plain(key) if _seed(key) else key: self.value(one, key)
                for key, one in value.items()
            }
        if isinstance(value, _LIST):
            return [self.value(one, name) for one in value]
        if isinstance(value, int):
            if -1_000_000 < value < 1_000_000 or (
                0 < value < pii.CUED and not self._kinds and not pii.is_cue(name[-pii.CUE_REACH :])
            ):
                return value
            text = self._plain(digits := str(value), name)
            return value if text == digits else text
        return value

    def _text(self, text: str, name: str) -> str:
        if text and text == self._subject:
            return self.alias
        if text.lstrip()[:1] in ("{", "["):
            # JSON in a string, as a tool's arguments: it is to stay JSON.
            try:
                whole = json.loads(text)
                hidden = self.value(whole, name)
            except (ValueError, RecursionError):
                return self._plain(text, name)
            if hidden != whole:
                return json.dumps(hidden, ensure_ascii=False)
        return self._plain(text, name)

    def _plain(self, text: str, name: str = "") -> str:
        if not _seed(text):
            return text
        cue = f"{name}: "
        spans = [
            pii.Span(s.kind, s.start - len(cue), s.end - len(cue)) for s in pii.find(cue + text)
        ]
        spans += self._again(text) if self._kinds else []
        if not spans:
            return text
        parts, done = [], 0
        for kind, start, end in pii.apart(spans):
            parts += [text[done:start], self._placeholder(kind, text[start:end])]
            done = end
        return "".join(parts) + text[done:]

    def _again(self, text: str) -> list[pii.Span]:
        """What was found before, where it had its cue, as an answer repeats it without one."""
        codes = ((self._kinds.get(_bare(m[0])), m) for m in _CODE.finditer(text))
        return [pii.Span(kind, m.start(), m.end()) for kind, m in codes if kind]

    def _placeholder(self, kind: pii.Kind, value: str) -> str:
        key = kind, _bare(value)
        if key not in self._known:
            self.counts[kind] += 1
            self._known[key] = f"[{kind}_{self.counts[kind]}]"
            if single := _SINGLE_CODE.fullmatch(value):
                self._kinds[single[1].casefold()] = kind
                self._known[kind, _bare(single[1])] = self._known[key]
        return self._known[key]


def _bare(value: str) -> str:
    """What two ways to write a value have in common."""
    return re.sub(r"[\W_]", "", value.casefold())
