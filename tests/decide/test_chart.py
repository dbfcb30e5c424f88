"""The break-even chart: its lines lie where the money is."""

from collections.abc import Callable

from residency.decide import chart
from residency.decide.decision import Decision
from residency.decide.facts import Facts

Case = Callable[[str], tuple[Facts, Decision]]


def points(text: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split())]


def test_the_lines_cross_where_it_breaks_even(case: Case) -> None:
    decision = case("support-desk")[1]
    money = decision.money
    made = chart.break_even(money, decision.outlook)
    staying, moving = points(made.staying.line), points(made.moving.line)
    assert len(staying) == len(moving) == money.horizon + 1
    assert staying[0] == (chart.LEFT, chart.BOTTOM)
    assert moving[0][1] < chart.BOTTOM  # capital comes first; up is less on a screen
    crossed = next(s[0] for s, m in zip(staying, moving, strict=True) if s[1] <= m[1])
    assert made.even is not None
    assert made.even[0] <= crossed <= made.even[2]


def test_without_a_break_even_none_is_marked(case: Case) -> None:
    decision = case("fintech")[1]
    assert chart.break_even(decision.money, decision.outlook).even is None


def test_all_of_it_is_inside_the_picture(case: Case) -> None:
    decision = case("clinic")[1]
    made = chart.break_even(decision.money, decision.outlook)
    for x, y in points(made.staying.band) + points(made.moving.band):
        assert chart.LEFT <= x <= chart.RIGHT
        assert chart.TOP <= y <= chart.BOTTOM
