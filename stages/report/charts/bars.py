"""Horizontal bars as inline SVG, each under its own label."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from evals.safe_text import plain
from stages.report.charts.lines import WIDTH
from stages.report.page.text import number, percent

_ROW, _TOP, _THICK = 34, 4, 12
_MOST_CHARACTERS = 40


@dataclass(frozen=True)
class Bar:
    """One bar; its parts are (tone, what it is, value) from left to right."""

    label: str
    parts: Sequence[tuple[str, str, int]]

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(value for _, _, value in self.parts)


def stacked_bars(title: str, bars: Sequence[Bar], *, relative: bool) -> Markup:
    """Bars one below the other; empty markup where all of them are empty.

    Args:
        title: what they show.
        bars: from top to bottom.
        relative: every bar fills the width, and parts are shares; else the longest fills it.
    """
    drawn = [bar for bar in bars if bar.total]
    if not drawn:
        return Markup("")
    longest = max(bar.total for bar in drawn)
    marks = [
        _bar(bar, _TOP + i * _ROW, bar.total if relative else longest, relative)
        for i, bar in enumerate(drawn)
    ]
    height = _TOP + _ROW * len(drawn)
    said = plain(f"{title}: {'; '.join(_said(bar, relative) for bar in drawn)}.")
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(said)}">'
        f"<title>{escape(plain(title))}</title><desc>{escape(said)}</desc>{''.join(marks)}</svg>"
    )


def _bar(bar: Bar, top: int, full: int, relative: bool) -> str:
    label = plain(bar.label)
    short = label if len(label) <= _MOST_CHARACTERS else label[: _MOST_CHARACTERS - 1] + "…"
    marks = [
        f'<text x="0" y="{top + 11}">{escape(short)}</text>',
        f'<text x="{WIDTH}" y="{top + 11}" text-anchor="end">{number(bar.total)}</text>',
    ]
    left = 0.0
    for tone, said, value in bar.parts:
        width = WIDTH * value / full
        hint = escape(plain(f"{said}: {number(value)}"))
        marks.append(
            f'<rect class="block {tone}" x="{left:.1f}" y="{top + 15}" width="{width:.1f}" '
            f'height="{_THICK}"><title>{hint}</title></rect>'
        )
        left += width
    return "".join(marks)


def _said(bar: Bar, relative: bool) -> str:
    if not relative:
        return f"{bar.label} {number(bar.total)}"
    parts = (f"{said} {percent(value / bar.total)}" for _, said, value in bar.parts)
    return f"{bar.label} {', '.join(parts)}"
