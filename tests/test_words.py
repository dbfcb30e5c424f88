from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from residency.words import runs, unspaced, words


def test_words_of_many_scripts() -> None:
    assert words("Don't wait: Straße 3.5!") == ["don", "t", "wait", "strasse", "3", "5"]
    assert words("请在9点来ABC诊所") == ["请", "在", "9", "点", "来", "abc", "诊", "所"]
    assert words("トイレはどこ") == list("トイレはどこ")
    assert words("हिन्दी में") == ["हिन्दी", "में"]
    assert words("card_2\0x") == ["card", "2", "x"]
    assert words("…!? ") == []


def test_runs_end_at_what_stands_between() -> None:
    assert runs("请在9点来，ABC诊所") == ["请在", "9", "点来", "abc", "诊所"]


@given(st.text() | st.text("我a1，, \0トé\u0301"))
def test_runs_are_words_put_together(text: str) -> None:
    split = [list(run) if unspaced(run[0]) else [run] for run in runs(text)]
    assert [word for run in split for word in run] == words(text)
