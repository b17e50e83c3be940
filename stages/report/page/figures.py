"""From the summary's numbers to figures: which series share a chart, and what the chart is for."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from stages.report.charts.lines import (
    MIN_LINE,
    Bars,
    Moment,
    Reference,
    Series,
    histogram_chart,
    line_chart,
    reliability_chart,
)
from stages.report.gather.sources import Json
from stages.report.page.text import is_number

LN2 = math.log(2)


@dataclass(frozen=True)
class Figure:
    """A chart with its caption; `legend` is (tone, label, number or None, CSS class of the key)."""

    title: str
    note: str
    svg: Markup
    legend: Sequence[tuple[str, str, float | None, str]]


_Plan = tuple[str, str, list[tuple[str, str, str]], list[Reference], tuple[float, float] | None]
"""Title, note, (metric, tone, label) of each line, reference lines, limits of the y axis."""


def training_figures(
    found: Json, starts_at_ln2: bool, checkpoints: Json | None, guard: Json | None
) -> list[Figure]:
    """The curves of preference training, as far as they were logged, and what happened when."""
    curves = found["curves"]
    at_start = [Reference("ln 2: policy = reference", LN2)] if starts_at_ln2 else []
    plans: tuple[_Plan, ...] = (
        ("Loss", "Low loss alone is not quality: see what the model writes.",
         [("loss", "policy", "")], at_start, None),
        ("Accuracy", "Share of pairs whose chosen answer gained more than the rejected one.",
         [("rewards/accuracies", "policy", "")], [], (0.0, 1.0)),
        ("Rewards", "beta × log-ratio to the reference; below 0 is less likely than before.",
         [("rewards/chosen", "chosen", "chosen"), ("rewards/rejected", "rejected", "rejected")],
         [Reference("reference", 0.0)], None),
        ("Margin", "Chosen reward less rejected reward.",
         [("rewards/margins", "policy", "")], [], None),
        ("Log-probability", "Sum over the answer's tokens, in nats; dashed: chosen at first.",
         [("logps/chosen", "chosen", "chosen"), ("logps/rejected", "rejected", "rejected")],
         _reference_logps(curves), None),
        ("What it writes", "Share of completions of the same prompts at every evaluation.",
         [("completions/end_of_turn_rate", "policy", "ended"),
          ("completions/well_formed_rate", "chosen", "well-formed")], [], (0.0, 1.0)),
        ("Length of what it writes", "Mean tokens, the end token included; the cut ones as cut.",
         [("completions/mean_length", "policy", "")], [], None),
    )  # fmt: skip
    moments = _moments(checkpoints, guard)
    figures = (_curve_figure(curves, *plan, moments=moments) for plan in plans)
    return [figure for figure in figures if figure]


_CHECKED = {
    "logps/chosen": "Log-probability",
    "completions/end_of_turn_rate": "What it writes",
    "completions/well_formed_rate": "What it writes",
    "completions/mean_length": "Length of what it writes",
}
"""The figure that a finding of the guard belongs to, by the measure it is about."""


def _moments(checkpoints: Json | None, guard: Json | None) -> Mapping[str, Sequence[Moment]]:
    """By the figure's title the steps to mark; under "" what is marked in every figure."""
    found: dict[str, list[Moment]] = {}
    if checkpoints:
        found[""] = [Moment("published", "published", checkpoints["published_step"])]
    for finding in (guard or {}).get("findings", ()):
        title = _CHECKED.get(finding["measure"].removeprefix("eval_"), "")
        found.setdefault(title, []).append(Moment("warning", "warned", finding["step"]))
    return found


def loss_figure(found: Json, title: str, note: str) -> Figure | None:
    """The loss of a supervised stage."""
    return _curve_figure(found["curves"], title, note, [("loss", "policy", "")], [], None)


def _reference_logps(curves: Mapping[str, Sequence[Sequence[float]]]) -> list[Reference]:
    """Step 0 is evaluated before the first update, where the policy still is the reference."""
    points = curves.get("eval_logps/chosen")
    return [Reference("", points[0][1])] if points else []


def _curve_figure(
    curves: Mapping[str, Sequence[Sequence[float]]],
    title: str,
    note: str,
    names: Sequence[tuple[str, str, str]],
    references: Sequence[Reference],
    limits: tuple[float, float] | None,
    moments: Mapping[str, Sequence[Moment]] | None = None,
) -> Figure | None:
    series = list(_series(curves, names))
    marked = [m for key in ("", title) for m in (moments or {}).get(key, ())]
    svg = line_chart(title, series, references, limits, moments=marked)
    if not svg:
        return None
    return Figure(title, note, svg, _legend(series, marked))


def _legend(
    series: Sequence[Series], moments: Sequence[Moment]
) -> list[tuple[str, str, float | None, str]]:
    """The strong lines with their last values; the faint ones stand for training together."""
    found: list[tuple[str, str, float | None, str]] = [
        (s.tone, s.label, s.points[-1][1], "points" if len(s.points) < MIN_LINE else "")
        for s in series
        if not s.faint
    ]
    if any(s.faint for s in series):
        found.append(("quiet", "training", None, "faint"))
    found += [(m.tone, f"{m.label}, step", m.step, "upright") for m in moments]
    return found


def _series(
    curves: Mapping[str, Sequence[Sequence[float]]], names: Sequence[tuple[str, str, str]]
) -> Iterator[Series]:
    """Held-out values strong and in front of training's, where there are enough to make a line."""
    for prefix, said in (("", "training"), ("eval_", "held out")):
        for name, tone, label in names:
            points = [(x, y) for x, y in curves.get(prefix + name, ())]
            behind = not prefix and len(curves.get("eval_" + name, ())) >= MIN_LINE
            if points:
                yield Series(", ".join(filter(None, (label, said))), tone, points, behind)


_TONES = {"pairs": "policy", "judge": "policy"}


def distribution_figure(found: Json | None, title: str, note: str) -> Figure | None:
    """Overlaid histograms, each in the colour of its group."""
    if not found:
        return None
    groups = [
        Bars(name, tone_of(name, i), [c / g["n"] for c in g["counts"]], g["median"])
        for i, (name, g) in enumerate(found["groups"].items())
    ]
    svg = histogram_chart(title, found["edges"], groups, found["unit"])
    legend = [(g.tone, f"{g.label}, median", g.mark, "") for g in groups]
    return Figure(title, note, svg, legend)


def tone_of(name: str, index: int) -> str:
    """The CSS class of a group: its own where it has one, else by its place."""
    if name in ("policy", "baseline", "chosen", "rejected"):
        return name
    return _TONES.get(name, ("policy", "chosen", "baseline", "rejected")[index % 4])


def reliability_figure(bins: Sequence[Mapping[str, object]]) -> Figure | None:
    """Stated confidence against accuracy, where the card has a reliability table."""
    points = []
    for row in bins:
        accuracy = row.get("accuracy")
        right = accuracy.get("value") if isinstance(accuracy, Mapping) else accuracy
        sure, n = row.get("mean_confidence"), row.get("n")
        if is_number(right) and is_number(sure) and is_number(n) and n:
            points.append((float(sure), float(right), int(n)))  # type: ignore[arg-type, call-overload]
    svg = reliability_chart(points)
    if not svg:
        return None
    note = "On the diagonal the judge is as often right as it says; size is the number of answers."
    return Figure("Confidence and accuracy", note, svg, [])
