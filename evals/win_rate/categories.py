"""The win rate of each category, and which of many categories stand out."""

import math
from collections.abc import Iterable, Mapping

from evals.statistics.conclusions import LEVEL
from evals.statistics.power import design_effect
from evals.win_rate.differences import benjamini_hochberg
from evals.win_rate.win_rate import VerdictRow, win_rates_by_category
from schemas.results.win_rates import CategoryRate, WinRate

MIN_CATEGORY = 50
"""A category of fewer prompts has an interval of some 27 points: it is counted, and not rated."""


def category_rates(
    rows: Iterable[VerdictRow], categories: Mapping[str, str | None]
) -> dict[str, CategoryRate]:
    """Win rates of the prompts of each category, the verdict by Benjamini and Hochberg's p.

    Args:
        rows: VERDICTS rows of one judge.
        categories: prompt_id -> category.
    """
    found = win_rates_by_category(rows, categories)
    p_values = {
        name: p
        for name, rate in found.items()
        if rate.n >= MIN_CATEGORY and (p := p_of_even(rate)) is not None
    }
    adjusted = benjamini_hochberg(p_values)
    return {
        name: CategoryRate(**dict(rate) | _concluded(rate, p_values.get(name), adjusted.get(name)))
        for name, rate in found.items()
    }


def p_of_even(rate: WinRate) -> float | None:
    """Two-sided p that a win rate is one half, of the test that Wilson's interval is made of."""
    if rate.win_rate is None:
        return None
    spread = design_effect(rate.win_rate, rate.standard_error, rate.n)
    z = abs(rate.win_rate - 0.5) / math.sqrt(0.25 * spread / rate.n)
    return math.erfc(z / math.sqrt(2))


def _concluded(rate: WinRate, p_value: float | None, p_bh: float | None) -> dict[str, object]:
    """Better or worse only where the interval, the worst case and the adjusted p all say so."""
    tells = p_bh is not None and p_bh <= LEVEL
    return {
        "p_value": p_value,
        "p_bh": p_bh,
        "verdict": rate.verdict if tells else "cannot tell",
    }
