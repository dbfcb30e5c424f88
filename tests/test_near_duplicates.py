from __future__ import annotations

import random

import pytest

from residency import near_duplicates
from residency.near_duplicates import group_near

TEXTS = [
    "i need to see a doctor about my left knee",
    "where do i park",
    "i need to see the doctor about my left knee!",
    "我想预约明天上午的牙科门诊",
    "我想预约明天下午的牙科门诊",
    "can you tell me where i could park the car",
]


@pytest.mark.parametrize("every_pair", [True, False])
def test_near_duplicates_are_grouped(monkeypatch: pytest.MonkeyPatch, every_pair: bool) -> None:
    if not every_pair:
        monkeypatch.setattr(near_duplicates, "_EVERY_PAIR", 0)
    assert group_near(TEXTS, 0.85) == [[0, 2], [1], [3, 4], [5]]
    assert group_near(TEXTS, 1.0) == [[n] for n in range(6)]


def test_who_is_near_a_neighbour_is_in_the_group() -> None:
    texts = ["abcdefghijklmnopqrst", "abcdefghijklmnopqrXX", "abcdefghijklmnopYYXX"]
    assert group_near(texts, 0.9) == [[0, 1, 2]]


def test_the_sieve_for_large_sets_loses_few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz "
    texts = []
    for _ in range(200):
        text = [chance.choice(letters) for _ in range(60)]
        texts.append("".join(text))
        for place in chance.sample(range(60), 4):
            text[place] = chance.choice(letters)
        texts.append("".join(text))
    exact = sum(len(group) > 1 for group in group_near(texts, 0.85))
    monkeypatch.setattr(near_duplicates, "_EVERY_PAIR", 0)
    likely = sum(len(group) > 1 for group in group_near(texts, 0.85))
    assert exact == 200
    assert likely >= 190
