"""The charts: every value at its height, gaps as gaps."""

import itertools

from residency.watch import plot


def test_a_line_is_broken_where_nothing_is_known() -> None:
    chart = plot.lines({"p95": [1.0, 2.0, None, 4.0]}, [0.0, 60.0, 120.0, 180.0], str)
    (line,) = chart.lines
    assert len(line.pieces) == 1 and len(line.dots) == 1
    assert line.dots[0][1] < float(line.pieces[0].split()[1].split(",")[1])
    assert line.label == line.dots[0][1]


def test_the_highest_value_is_below_the_edge_and_nothing_is_the_axis() -> None:
    chart = plot.bars([[0.0, 5.0, 10.0]], [0.0, 60.0, 120.0], str)
    (bars,) = chart.bars
    assert len(bars) == 2
    assert plot.TOP < bars[1].y < bars[0].y < plot.BOTTOM
    assert bars[1].y + bars[1].height == plot.BOTTOM
    assert chart.up[0] == (plot.BOTTOM, "0.0")


def test_names_of_lines_do_not_cover_each_other() -> None:
    rows = {name: [1.0, value] for name, value in zip("abc", (10.0, 9.99, 9.98), strict=True)}
    heights = sorted(line.label for line in plot.lines(rows, [0.0, 60.0], str).lines)
    assert all(b - a >= 14.9 for a, b in itertools.pairwise(heights))
    assert heights[0] >= plot.TOP


def test_nothing_at_all_is_a_chart_too() -> None:
    chart = plot.lines({"p50": [None], "p95": [None]}, [0.0], str)
    assert all(line.pieces == line.dots == () for line in chart.lines)
    assert plot.bars([[0.0]], [0.0], str).bars == ((),)
