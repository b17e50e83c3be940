"""Values to markup: how the template shows what it is given.

Every number is a `<data>` element whose value is the summary's own, so that the page can be checked
against the summary.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from markupsafe import Markup, escape

from evals.safe_text import markdown, plain, visible
from stages.report.page import text
from stages.report.page.differences import marked


def finalize(value: Any) -> Any:
    """Show deceptive characters of everything that is not markup of our own."""
    return value if hasattr(value, "__html__") else visible(value)


def _data(value: Any, shown: str) -> Markup:
    if not text.is_number(value):
        return Markup('<span class="nothing">{}</span>').format(shown)
    return Markup('<data value="{}">{}</data>').format(repr(value), shown)


_SHOW: Mapping[str, Callable[[Any], str]] = {
    "rate": text.percent,
    "points": text.points,
    "number": text.number,
}


def _interval(
    found: Mapping[str, Any] | None, kind: str = "rate", beside: Iterable[Any] = ()
) -> Markup:
    if not found or not text.is_number(found.get("ci_low")):
        return _data(None, text.NOTHING)
    show = partial(text.aligned, beside=[*beside]) if kind == "number" else _SHOW[kind]
    low, high = found["ci_low"], found["ci_high"]
    shown_low, shown_high = show(low), show(high)
    ends = _data(low, shown_low.removesuffix("%")) + Markup(" to ") + _data(high, shown_high)
    return Markup('<span class="nobreak">{}</span>').format(ends)


def _beside(value: Any, others: Iterable[Any]) -> Markup:
    return _data(value, text.aligned(value, others))


def _shown(found: Mapping[str, Any]) -> Markup:
    """A value of its kind, in the precision of its own interval."""
    if found["kind"] == "number":
        return _beside(found["value"], _ends(found))
    return _data(found["value"], _SHOW[found["kind"]](found["value"]))


def _ends(found: Mapping[str, Any]) -> list[Any]:
    return [found.get("value"), found.get("ci_low"), found.get("ci_high")]


def _setting(value: Any) -> Markup:
    if isinstance(value, bool):
        return escape(str(value).lower())
    if value is None:
        return Markup('<span class="nothing">none</span>')
    if text.is_number(value):
        return _data(value, repr(value))
    if isinstance(value, list):
        return Markup(", ").join(_setting(item) for item in value)
    return visible(value)


FILTERS: dict[str, Callable[..., Any]] = {
    "pct": lambda value: _data(value, text.percent(value)),
    "num": lambda value: _data(value, text.number(value)),
    "whole": lambda value: _data(value, text.whole(value)),
    "distance": lambda value: _data(value, text.points(value).removeprefix("+")),
    "points": lambda value: _data(value, text.points(value)),
    "nats": lambda value: _data(value, f"{value:.2g}"),
    "score": lambda value: _data(value, f"{value:.3f}"),
    "rating": lambda value: _data(value, text.rating(value)),
    "p_value": lambda value: _data(value, f"{value:.3f}" if value >= 0.001 else "<0.001"),
    "shown": _shown,
    "beside": _beside,
    "ends": _ends,
    "seconds": lambda value: _data(value, text.seconds(value)),
    "bytes": lambda value: _data(value, text.size(value)),
    "interval": _interval,
    "setting": _setting,
    "capitalize_first": lambda line: line[:1].upper() + line[1:],
    "visible": visible,
    "markdown": markdown,
    "marked": marked,
    "plain": plain,
    "words": text.words,
}
