import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.pages import round_step


@given(st.floats(1e-6, 1e12))
def test_a_few_round_steps_reach_the_top(top: float) -> None:
    step = round_step(top, 5)
    assert 2 <= top / step <= 5 or top / step == pytest.approx(2) or top / step == pytest.approx(5)
    assert f"{step:e}"[0] in "125"
