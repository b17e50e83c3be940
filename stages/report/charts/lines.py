"""Charts as inline SVG: no scripts, colours by CSS classes, a title and a description for readers.

All are drawn at phone width and never scaled down below it, so that labels stay legible.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup, escape

from evals.safe_text import plain
from stages.report.page.text import aligned, number

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 18, 10, 28
_STEPS = (1, 2, 2.5, 5, 10)
MOST_HINTS = 40
MIN_LINE = 4
"""Fewer points are shown as points: a line between them would tell of values nobody measured."""


@dataclass(frozen=True)
class Series:
    """A line of (x, y); `tone` is its CSS class, `faint` ones stand behind the others."""

    label: str
    tone: str
    points: Sequence[tuple[float, float]]
    faint: bool = False


@dataclass(frozen=True)
class Reference:
    """A horizontal line at a value that means something, such as ln 2."""

    label: str
    value: float


@dataclass(frozen=True)
class Moment:
    """A vertical line at a step where something happened; `tone` is its CSS class."""

    label: str
    tone: str
    step: float


@dataclass(frozen=True)
class Bars:
    """A histogram's group: shares of its values per bin, outlined over the others."""

    label: str
    tone: str
    shares: Sequence[float]
    mark: float | None = None


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[float] = field(default=())

    def __call__(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)


def line_chart(
    title: str,
    series: Sequence[Series],
    references: Sequence[Reference] = (),
    limits: tuple[float, float] | None = None,
    x_label: str = "step",
    moments: Sequence[Moment] = (),
) -> Markup:
    """Lines over steps; empty markup where there is nothing to draw."""
    drawn = [s for s in series if s.points]
    if not drawn:
        return Markup("")
    xs = [x for s in drawn for x, _ in s.points]
    ys = [y for s in drawn for _, y in s.points] + [r.value for r in references]
    # Steps and rounds are whole: no tick stands between them.
    x, y = _x_scale(min(xs), max(xs), whole=True), _y_scale(*(limits or (min(ys), max(ys))))
    marks = [_y_axis(y), _x_axis(x, x_label)]
    inside = [r for r in references if y.low <= r.value <= y.high]
    marks += [_segment("reference", LEFT, y(r.value), WIDTH - RIGHT, y(r.value)) for r in inside]
    happened = [m for m in moments if x.low <= m.step <= x.high]
    marks += [_moment(m, x(m.step)) for m in happened]
    marks += [_line(s, x, y) for s in drawn]
    marks += [_reference_label(r, y) for r in inside]
    said = [f"{s.label} {number(s.points[0][1])} to {number(s.points[-1][1])}" for s in drawn]
    said += [f"{m.label} at {x_label} {number(m.step)}" for m in happened]
    return _svg(title, f"{title} by {x_label}: {'; '.join(said)}.", marks)


def histogram_chart(
    title: str,
    edges: Sequence[float],
    groups: Sequence[Bars],
    x_label: str,
) -> Markup:
    """Overlaid outlines of shares per bin; `mark` is shown as a line (the group's median)."""
    top = max((share for group in groups for share in group.shares), default=0.0)
    if not top:
        return Markup("")
    x, y = _x_scale(edges[0], edges[-1]), _y_scale(0.0, top)
    marks = [_y_axis(y, percent=True), _x_axis(x, x_label)]
    marks += [_outline(group, edges, x, y) for group in groups]
    said = "; ".join(f"{g.label}, median {number(g.mark)}" for g in groups)
    return _svg(title, f"{title}, share of values per bin of {x_label}: {said}.", marks)


def reliability_chart(points: Sequence[tuple[float, float, int]]) -> Markup:
    """Accuracy over stated confidence, both in [0, 1]; the diagonal is perfect calibration.

    Args:
        points: (mean confidence, accuracy, n) per bin that has answers.
    """
    if not points:
        return Markup("")
    x, y = _x_scale(0.0, 1.0), _y_scale(0.0, 1.0)
    diagonal = (
        f'<line class="reference" x1="{x(0):.1f}" y1="{y(0):.1f}" x2="{x(1):.1f}" y2="{y(1):.1f}"/>'
    )
    most = max(n for _, _, n in points)
    dots = [
        f'<circle class="dot policy" cx="{x(c):.1f}" cy="{y(a):.1f}" '
        f'r="{3 + 6 * math.sqrt(n / most):.1f}"><title>{number(n)} answers: '
        f"confidence {c:.3f}, accuracy {a:.3f}</title></circle>"
        for c, a, n in points
    ]
    said = "; ".join(f"at {c:.2f}, {a:.2f} right ({n})" for c, a, n in points)
    marks = [_y_axis(y, percent=True), _x_axis(x, "confidence", percent=True), diagonal, *dots]
    return _svg("Accuracy by confidence", f"Accuracy by confidence: {said}.", marks)


def interval_bar(low: float, value: float, high: float, tone: str, label: str) -> Markup:
    """A rate and its interval on a scale from 0 to 1, as wide as its place allows."""
    width = max(0.0, high - low)
    return Markup(
        f'<svg class="interval {escape(tone)}" role="img" aria-label="{escape(plain(label))}" '
        'width="100%" height="26">'
        '<line class="track" x1="0" x2="100%" y1="13" y2="13"/>'
        '<line class="chance" x1="50%" x2="50%" y1="2" y2="24"/>'
        f'<rect class="range" x="{100 * low:.2f}%" width="{100 * width:.2f}%" y="8" height="10" '
        'rx="3"/>'
        f'<line class="mark" x1="{100 * value:.2f}%" x2="{100 * value:.2f}%" y1="4" y2="22"/></svg>'
    )


def _svg(title: str, description: str, marks: Sequence[str]) -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(plain(description))}"><title>{escape(plain(title))}</title>'
        f"<desc>{escape(plain(description))}</desc>{''.join(marks)}</svg>"
    )


def _x_scale(low: float, high: float, *, whole: bool = False) -> _Scale:
    ticks = nice_ticks(low, high, 5)
    kept = [tick for tick in ticks if not whole or tick == int(tick)]
    return _Scale(low, high, LEFT, WIDTH - RIGHT, kept)


def _y_scale(low: float, high: float) -> _Scale:
    """From tick to tick, so that the outermost labels name the ends of the axis."""
    if low == high:
        pad = abs(low) * 0.1 or 0.5
        low, high = low - pad, high + pad
    step = _step(low, high, 4)
    bottom, top = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [i * step for i in range(bottom, top + 1)]
    return _Scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP, ticks)


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round values in [low, high]."""
    if low == high:
        return [low]
    step = _step(low, high, count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _step(low: float, high: float, count: int) -> float:
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    return float(next(s * power for s in _STEPS if s * power >= rough * (1 - 1e-9)))


def _tick_text(value: float, ticks: Sequence[float], percent: bool) -> str:
    step = min((b - a for a, b in pairwise(ticks)), default=1.0) * (100 if percent else 1)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    if decimals and not math.isclose(step * 10**decimals, round(step * 10**decimals)):
        decimals += 1
    if not decimals and not math.isclose(step, round(step)):
        decimals = 1
    shown = f"{value * (100 if percent else 1):,.{decimals}f}".replace("-", "−")
    return shown + ("%" if percent else "")


def _y_axis(y: _Scale, percent: bool = False) -> str:
    parts = []
    for tick in y.ticks:
        at = y(tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        text = _tick_text(tick, y.ticks, percent)
        parts.append(f'<text x="{LEFT - 6}" y="{at + 3.5:.1f}" text-anchor="end">{text}</text>')
    return "".join(parts)


def _x_axis(x: _Scale, label: str, percent: bool = False) -> str:
    base = HEIGHT - BOTTOM
    parts = [_segment("axis", LEFT, base, WIDTH - RIGHT, base)]
    for tick in x.ticks:
        text = _tick_text(tick, x.ticks, percent)
        # A long label at the very end would be cut off.
        anchor = "end" if x(tick) > WIDTH - RIGHT - 8 and len(text) > 4 else "middle"
        parts.append(_text(x(tick), base + 13, text, anchor))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3, label, "middle"))
    return "".join(parts)


def _reference_label(reference: Reference, y: _Scale) -> str:
    at = y(reference.value)
    beside = at - 4 if at > TOP + 14 else at + 12
    return _text(WIDTH - RIGHT, beside, reference.label, "end", "halo")


def _segment(css: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _moment(moment: Moment, at: float) -> str:
    line = _segment(f"moment {moment.tone}", at, TOP, at, HEIGHT - BOTTOM)
    top = TOP - 7  # above the highest value, which lines often run along
    corners = f"{at - 4:.1f},{top} {at + 4:.1f},{top} {at:.1f},{TOP - 1}"
    hint = escape(plain(f"{moment.label} at step {number(moment.step)}"))
    flag = f'<polygon class="flag {moment.tone}" points="{corners}"><title>{hint}</title></polygon>'
    return line + flag


def _text(x: float, y: float, content: str, anchor: str, css: str = "") -> str:
    shown = escape(plain(content))
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{shown}</text>'


def _line(series: Series, x: _Scale, y: _Scale) -> str:
    faint = " faint" if series.faint else ""
    hint = f"<title>{escape(plain(series.label))}</title>"
    places = [(x(px), y(py)) for px, py in series.points]
    if len(places) < MIN_LINE:
        said = (_said(series, point) for point in series.points)
        dots = (
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4"><title>{text}</title></circle>'
            for (px, py), text in zip(places, said, strict=True)
        )
        return f'<g class="dot {series.tone}">{"".join(dots)}</g>'
    points = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
    line = f'<polyline class="line {series.tone}{faint}" points="{points}">{hint}</polyline>'
    return line if series.faint else line + _hints(series, places)


def _hints(series: Series, places: Sequence[tuple[float, float]]) -> str:
    """Unseen points along a line that say their value to whoever points at them."""
    every = -(-len(places) // MOST_HINTS)
    points = (
        f'<circle cx="{px:.1f}" cy="{py:.1f}" r="6"><title>{_said(series, point)}</title></circle>'
        for (px, py), point in zip(places[::every], series.points[::every], strict=True)
    )
    return f'<g class="hints">{"".join(points)}</g>'


def _said(series: Series, point: tuple[float, float]) -> Markup:
    named = f"{plain(series.label)} " if series.label else ""
    value = aligned(point[1], (y for _, y in series.points))
    return escape(f"{number(point[0])}: {named}{value}")


def _outline(group: Bars, edges: Sequence[float], x: _Scale, y: _Scale) -> str:
    base = y(0)
    path = [f"M{x(edges[0]):.1f},{base:.1f}"]
    for (left, right), share in zip(pairwise(edges), group.shares, strict=True):
        path.append(f"L{x(left):.1f},{y(share):.1f}L{x(right):.1f},{y(share):.1f}")
    path.append(f"L{x(edges[-1]):.1f},{base:.1f}Z")
    mark = ""
    if group.mark is not None and edges[0] <= group.mark <= edges[-1]:
        mark = _segment(f"median {group.tone}", x(group.mark), TOP, x(group.mark), base)
    hint = f"<title>{escape(plain(group.label))}</title>"
    return f'<path class="area {group.tone}" d="{"".join(path)}">{hint}</path>{mark}'
