"""The pictures of the data section."""

from collections.abc import Sequence

from stages.report.charts.bars import Bar, stacked_bars
from stages.report.gather.sources import Json
from stages.report.page.figures import Figure, distribution_figure

_LABELS = (("policy", "A preferred"), ("tie", "tie"), ("baseline", "B preferred"))
_MOST_REASONS = 8


def data_figures(found: Json) -> list[Figure]:
    """Labels by source, lengths, strengths and rejects, as far as there are any."""
    figures = (
        labels_figure(found["sources"]),
        distribution_figure(
            found.get("lengths"),
            "Length of prompts and answers",
            "All turns of a prompt together; the longest hundredth may share the last bin.",
        ),
        distribution_figure(
            found.get("strengths"),
            "Strength of the labels",
            "In the units of each source; ties have none.",
        ),
        rejects_figure(found["rejects"]),
    )
    return [figure for figure in figures if figure is not None]


def labels_figure(sources: Sequence[Json]) -> Figure | None:
    """Who wins in each source: A, B or nobody."""
    bars = []
    for row in sources:
        decided = row["rows"] - row["ties"] - row["unlabelled"]
        a = round((row["a_share"] or 0.0) * decided)
        values = (a, row["ties"], decided - a)
        parts = [(tone, said, n) for (tone, said), n in zip(_LABELS, values, strict=True)]
        bars.append(Bar(row["source"], parts))
    title = "Labels by source"
    svg = stacked_bars(title, bars, relative=True)
    note = "Far from half and half, the side says who wins: a judge would learn the side."
    legend = [(tone, said, None, "") for tone, said in _LABELS]
    return Figure(title, note, svg, legend) if svg else None


def rejects_figure(rejects: Sequence[Json]) -> Figure | None:
    """Rows that were left out, by reason; rare reasons together."""
    shown = [Bar(r["reason"].replace("_", " "), [("rejected", "rows", r["rows"])]) for r in rejects]
    rest = sum(r["rows"] for r in rejects[_MOST_REASONS:])
    if rest:
        others = f"{len(rejects) - _MOST_REASONS} other reasons"
        shown = [*shown[:_MOST_REASONS], Bar(others, [("rejected", "rows", rest)])]
    title = "Rows left out"
    svg = stacked_bars(title, shown, relative=False)
    note = "Each lies in rejects.parquet with its reason and as it was read."
    return Figure(title, note, svg, []) if svg else None
