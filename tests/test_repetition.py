import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.repetition import LONGEST_UNIT, Detector, Loop
from tests.serve import legitimate

LOOPS = legitimate.loops()


def read(text: str, size: int = 4) -> tuple[Loop | None, int]:
    """The loop found in `text`, given in pieces of `size`, and how much had been read by then."""
    detector = Detector()
    for end in range(size, len(text) + size, size):
        if loop := detector.feed(text[end - size : end]):
            return loop, end
    return None, len(text)


def found(text: str, size: int = 4) -> tuple[Loop, int]:
    loop, end = read(text, size)
    assert loop is not None
    return loop, end


def test_there_is_enough_to_measure_on() -> None:
    assert len(legitimate.TEXTS) >= 60
    assert len(LOOPS) >= 40


@pytest.mark.parametrize("name", legitimate.TEXTS)
def test_no_alarm_on_a_legitimate_text(name: str) -> None:
    assert read(legitimate.TEXTS[name])[0] is None


@pytest.mark.parametrize(("kind", "before", "loop"), LOOPS)
def test_a_loop_after_a_legitimate_text_is_found(kind: str, before: str, loop: str) -> None:
    alarm, end = found(before + loop)
    text = before + loop
    period = len(alarm.unit)
    assert alarm.kind == kind
    assert text[alarm.start :].startswith(alarm.unit)
    assert period <= alarm.start - len(before) <= 2 * period
    assert alarm.repeats == (end - alarm.start) // period


@pytest.mark.parametrize("name", legitimate.REAL)
def test_a_loop_of_a_real_model_is_found(name: str) -> None:
    loop, _ = found(legitimate.REAL[name])
    assert loop.repeats >= 2


def test_what_is_kept_has_the_unit_once() -> None:
    for before, unit, kept in [
        ("Why? ", "I pat the cat. ", "Why? I pat the cat. "),
        ("He has the cat. ", "I pat the cat. ", "He has the cat. I pat the cat. "),
        ("Well, ", "no no ", "Well, no "),
        ("他说：", "我不知道。", "他说：我不知道。"),
        ("Eat:\n", "- figs\n", "Eat:\n- figs\n"),
    ]:
        text = before + unit * 80
        assert text[: found(text)[0].start] == kept


def test_a_number_that_counts_up_is_part_of_a_loop() -> None:
    loop, _ = found("".join(f"{n}. The cat sat on the mat.\n" for n in range(8, 99)))
    assert loop.unit.startswith("9. The cat")


@pytest.mark.parametrize("step", [2, -1])
def test_other_sequences_are_no_loops(step: int) -> None:
    numbers = range(300, 300 + 60 * step, step)
    assert read("".join(f"{n}. The cat sat on the mat.\n" for n in numbers))[0] is None


def test_a_unit_may_be_so_long_and_no_longer() -> None:
    def text(length: int) -> str:
        unit = "".join(chr(0x4E00 + 7 * n) for n in range(length))
        return unit * 6

    assert read(text(LONGEST_UNIT))[0] is not None
    assert read(text(LONGEST_UNIT + 1))[0] is None


def test_half_of_a_surrogate_pair_is_a_character_like_any() -> None:
    assert found("\ud83d abc " * 400)[0].repeats


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80), st.text(min_size=1, max_size=300), st.integers(1, 40))
def test_any_unit_is_found_at_any_place(before: str, unit: str, size: int) -> None:
    text = before + unit * (4000 // len(unit) + 8)
    loop, end = found(text, size)
    period = len(loop.unit)
    assert len(unit) % period == 0 or loop.start < len(before)
    assert text[loop.start - period : end - period] == text[loop.start : end]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=40), unique=True, max_size=200))
def test_lines_that_all_differ_are_no_loop(lines: list[str]) -> None:
    text = "".join(f"{n * n} {line} {n * 7919 % 1000}\n" for n, line in enumerate(lines))
    assert read(text)[0] is None
