"""Numbers, made easy to read; texts, cut to a length."""

import math
from collections.abc import Iterable
from typing import Any

NOTHING = "–"


def clip(text: str, limit: int) -> tuple[str, int]:
    """The first `limit` characters, and how many more there are."""
    return text[:limit], max(0, len(text) - limit)


def is_number(value: Any) -> bool:
    """A finite int or float; bool is not a number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def percent(rate: Any, decimals: int = 1) -> str:
    """A rate in [0, 1] as a percentage; 100.0% and 0.0% only where the rate is exactly 1 or 0."""
    if not is_number(rate):
        return NOTHING
    shown = round(100 * rate, decimals)
    step: float = 10.0**-decimals
    if rate < 1 and shown >= 100:
        shown = 100 - step
    if rate > 0 and shown <= 0:
        return f"<{step:.{decimals}f}%"
    return f"{shown:.{decimals}f}%"


def points(difference: Any) -> str:
    """A difference of two rates, in signed percentage points."""
    if not is_number(difference):
        return NOTHING
    return f"{100 * difference:+.1f}".replace("-", "−")


def number(value: Any) -> str:
    """A count or a measurement with about four significant digits and a true minus sign."""
    if not is_number(value):
        return NOTHING
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e6):
        text = f"{int(value):,}"
    elif abs(value) >= 1e6 or abs(value) < 1e-3:
        text = f"{value:.2e}"
    elif abs(value) >= 1000:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.4g}"
    return text.replace("-", "−") if not text.endswith("e") else text


def rating(value: Any) -> str:
    """A mean rating from 1 to 10, or a difference of two."""
    return f"{value:.2f}".replace("-", "−") if is_number(value) else NOTHING


def whole(value: Any) -> str:
    """A number without its fraction."""
    return f"{value:,.0f}".replace("-", "−") if is_number(value) else NOTHING


def aligned(value: Any, beside: Iterable[Any]) -> str:
    """A measurement with as many decimals as those beside it: four digits of the largest.

    Whole numbers, where all are, have none; all below a thousandth are written as powers of ten.
    """
    numbers = [abs(one) for one in (value, *beside) if is_number(one)]
    if not is_number(value) or all(float(one).is_integer() for one in numbers):
        return number(value)
    largest = max(numbers)
    if 0 < largest < 1e-3 or largest >= 1e6:
        return f"{value:.2e}".replace("-", "−", 1) if value < 0 else f"{value:.2e}"
    digits = math.floor(math.log10(largest)) if largest else 0
    decimals = min(6, max(0, 3 - digits))
    shown = f"{value:,.{decimals}f}"
    return shown.replace("-", "−") if float(shown.replace(",", "")) else shown.removeprefix("-")


def seconds(value: Any) -> str:
    """A duration: 8.4 s, 2 min 05 s, 1 h 02 min."""
    if not is_number(value):
        return NOTHING
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(value: Any) -> str:
    """A number of bytes: 812 kB, 1.2 GB (powers of ten)."""
    if not is_number(value):
        return NOTHING
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= power:
            return f"{value / power:.3g} {unit}"
    return f"{value} B"


def words(name: str) -> str:
    """A snake_case code as words."""
    return name.replace("_", " ")
