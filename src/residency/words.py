"""Words of a text in any script."""

from __future__ import annotations

import unicodedata

_EDGE = "\0"  # of a character that is written without spaces


def words(text: str) -> list[str]:
    """Letters, marks and digits between anything else, in folded case (NFKC).

    Each Han character and each kana is a word, as those scripts have no spaces.
    """
    return _spaced(text).replace(_EDGE, " ").split()


def runs(text: str) -> list[str]:
    """The same, with neighbours of the scripts without spaces in one piece."""
    return _spaced(text).replace(_EDGE * 2, "").replace(_EDGE, " ").split()


def unspaced(char: str) -> bool:
    """Whether `char` is Han, with its extensions, hiragana or katakana (Unicode's blocks)."""
    return (
        "\u3040" <= char <= "\u30ff"
        or "\u3400" <= char <= "\u4dbf"
        or "\u4e00" <= char <= "\u9fff"
        or "\uf900" <= char <= "\ufaff"
        or "\U00020000" <= char <= "\U0003ffff"
    )


class _Spacing(dict[int, str]):
    """What `str.translate` puts for a character, found out when it first comes."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if unspaced(char):
            char = f"{_EDGE}{char}{_EDGE}"
        elif unicodedata.category(char)[0] not in "LMN":
            char = " "
        self[code] = char
        return char


_SPACING = _Spacing()


def _spaced(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().translate(_SPACING)
