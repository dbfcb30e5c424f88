"""Pages that need nothing beside themselves, from templates that stand beside their stage."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jinja2


def template(package: str, name: str, **filters: Callable[..., Any]) -> jinja2.Template:
    """The template `name` of `package`, escaped for HTML; it fails on a name that is not there.

    It may extend `page.html.j2`, which has what all pages share, and has the filters `percent`,
    `count` and `money` beside `filters`.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(one, ".") for one in (package, "residency")]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "count": count, "money": money, **filters}
    return environment.get_template(name)


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def count(number: float) -> str:
    return f"{number:,.0f}"


def money(amount: float) -> str:
    return f"{amount:,.2f}" if amount >= 1 or not amount else f"{amount:.4g}"


def round_step(top: float, most: int) -> float:
    """1, 2 or 5 times a power of ten, so that at most `most` steps reach `top` (above 0)."""
    least = 10.0 ** math.floor(math.log10(top / most))
    return next(step for n in (1, 2, 5, 10) if (step := n * least) * most >= top)
