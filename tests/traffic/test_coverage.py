"""The curve, and how well two labels agree."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from residency.traffic.coverage import compare, coverage, nmi

Pairs = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), st.integers(1, 50), min_size=1
).map(Counter)


def test_how_many_cover_a_share() -> None:
    found = coverage([10, 50, 30, 10], 100)
    assert found is not None
    assert found.curve == (0.5, 0.8, 0.9, 1.0)
    assert found.needed == {"50%": 1, "80%": 2, "95%": 4}


def test_a_share_that_no_category_has_is_not_covered() -> None:
    found = coverage([60], 100)
    assert found is not None
    assert found.needed == {"50%": 1, "80%": None, "95%": None}


def test_no_money_has_no_curve() -> None:
    assert coverage([0.0, 0.0], 0.0) is None


@given(st.lists(st.integers(1, 1000), min_size=1))
def test_the_curve_rises_to_one(amounts: list[int]) -> None:
    found = coverage(amounts, sum(amounts))
    assert found is not None
    assert list(found.curve) == sorted(found.curve)
    assert abs(found.curve[-1] - 1) < 1e-9
    assert found.needed["95%"] is not None


def test_nmi_of_a_known_table() -> None:
    # By hand: H = ln 2 both, I = 0.75 ln 1.5 + 0.25 ln 0.5 for three quarters on the diagonal.
    pairs = Counter({("a", "x"): 3, ("b", "y"): 3, ("a", "y"): 1, ("b", "x"): 1})
    assert abs(nmi(pairs) - 0.188722) < 1e-6


@given(Pairs)
def test_nmi_is_between_0_and_1_and_has_no_sides(pairs: Counter[tuple[str, str]]) -> None:
    turned = Counter({(b, a): n for (a, b), n in pairs.items()})
    assert 0 <= nmi(pairs) <= 1
    assert abs(nmi(pairs) - nmi(turned)) < 1e-9


def test_a_tag_that_agrees_and_one_that_does_not() -> None:
    same = compare("t", Counter({("a", "x"): 5, ("b", "y"): 3}), 16)
    assert (same.nmi, same.purity, same.share, same.values, same.calls) == (1, 1, 0.5, 2, 8)
    none = compare("t", Counter({(c, v): 4 for c in "ab" for v in "xy"}), 16)
    assert (none.nmi, none.purity) == (0, 0.5)


def test_the_table_has_the_largest_first() -> None:
    found = compare("t", Counter({("a", "x"): 1, ("b", "x"): 2, ("b", "y"): 5}), 8)
    assert list(found.table) == ["b", "a"]
    assert list(found.table["b"]) == ["y", "x"]
