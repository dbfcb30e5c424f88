"""The sample of what is asked."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from residency.traffic.discovery import Sample


@given(st.lists(st.integers(0, 40)), st.integers(1, 60))
def test_a_sample_is_bounded_exact_and_has_no_order(asked: list[int], most: int) -> None:
    def sampled(numbers: list[int]) -> Counter[tuple[int, str]]:
        sample = Sample(most)
        for number in numbers:
            sample.add("", f"text {number}")
        return sample.texts({})

    found = sampled(asked)
    counts = Counter(asked)
    assert len(found) == min(most, len(counts))
    assert all(count == counts[int(text.split()[1])] for (_, text), count in found.items())
    assert found == sampled(sorted(asked))


def test_prompts_that_many_calls_share() -> None:
    sample = Sample()
    for number in range(100):
        prompt = "translate" if number % 3 else "summarise"
        sample.add(prompt if number % 10 else f"only once {number}", "text")
    assert sample.prompts_of_many() == ["translate", "summarise"]
