"""The page: one HTML file that needs nothing else, made of the summary alone."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from schemas.stage import StageContext
from stages.report import ReportConfig, charts, figures, text
from stages.report.sources import STAGE_ORDER, Json
from stages.report.summary import summarize

_HERE = Path(__file__).parent
PAGE_NAME = "index.html"
SUMMARY_NAME = "summary.json"


def write_report(config: ReportConfig, context: StageContext) -> Mapping[str, int]:
    """Gather, render and write summary.json and index.html; returns counts for the manifest."""
    summary = summarize(config, context)
    # Lone surrogates become \udXXX, which is how JSON spells them anyway.
    data = json.dumps(summary, ensure_ascii=False, indent=1, allow_nan=False)
    _write(context.output / SUMMARY_NAME, data, errors="backslashreplace")
    page = render_page(summary)
    _write(context.output / PAGE_NAME, page, errors="strict")
    shown = summary["examples"]
    return {
        "examples": len(shown["random"]) + len(shown["doubtful"]),
        "warnings": len(summary["warnings"]),
        "page_bytes": len(page.encode()),
    }


def _write(path: Path, content: str, errors: str) -> None:
    temporary = path.with_name(path.name + ".writing")
    temporary.write_text(content, encoding="utf-8", errors=errors, newline="\n")
    os.replace(temporary, path)


def render_page(summary: Json) -> str:
    """The page of a summary. Everything it is given is escaped, whoever wrote it."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters.update(_FILTERS)
    environment.tests["measured"] = text.is_number
    return environment.get_template("template.html.jinja").render(
        summary,
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        order=STAGE_ORDER,
        charts=charts,
        figures=figures,
        card_rows=card_rows(summary["judge"] or {}),
        judge_names=JUDGE_NAMES,
        stage_words=STAGE_WORDS,
        model_words=model_words,
    )


JUDGE_NAMES = {"judge": "the judge", "truth": "the true rule", "length": "the longer wins"}

STAGE_WORDS = {
    "ingest": "raw data to tables",
    "sft": "supervised fine-tuning",
    "judge": "the judge, trained and measured",
    "sample": "completions of the training prompts",
    "label": "verdicts to preference pairs",
    "train": "preference training",
    "evaluate": "benchmarks and win rate",
}


def model_words(baseline: str, start: str) -> str:
    """The baseline in words; `start` and `sft` are no paths but roles."""
    if baseline != "start":
        return baseline
    made = "made by this run's supervised fine-tuning" if start == "sft" else start
    return f"the model it began as, {made}"


def card_rows(card: Mapping[str, Any], prefix: str = "") -> list[Json]:
    """The judge card's estimates and plain numbers, nested ones too, in the card's order."""
    rows: list[Json] = []
    for key, found in card.items():
        name = f"{prefix}{key}"
        estimate = found if isinstance(found, Mapping) and "value" in found else {"value": found}
        if text.is_number(estimate["value"]):
            label = CARD_WORDS.get(name, text.words(name.replace(".", ": ")).capitalize())
            rows.append({"label": label, "kind": _kind(name, estimate), **estimate})
        elif isinstance(found, Mapping) and key not in ("confusion", "by_reason"):
            rows += card_rows(found, f"{name}.")
    return [row for row in rows if row["label"]]


CARD_WORDS = {
    "accuracy": "Accuracy on held-out labels",
    "accuracy_non_ties": "Accuracy where the label is no tie",
    "kappa": "Cohen's kappa",
    "baselines.longest": "Accuracy of “the longer one wins”",
    "baselines.first": "Accuracy of “the first one wins”",
    "baselines.longest_non_ties": "Accuracy of “the longer one wins”, no ties",
    "lift_over_longest": "Lift over “the longer one wins”, points",
    "lift_over_first": "Lift over “the first one wins”, points",
    "position_consistency": "Same verdict in both orders",
    "p_first": "Verdicts for whichever is shown first",
    "unscored_rate.ab": "Unscored, shown as given",
    "unscored_rate.ba": "Unscored, shown exchanged",
    "unscored_rate.n": "",
    "n": "",
    "n_scored": "",
    "n_prompts": "",
    "ece": "Expected calibration error",
    "brier": "Brier score, 0 to 2",
}


def _kind(name: str, estimate: Mapping[str, Any]) -> str:
    if name.startswith("lift"):
        return "points"
    rate = "ci_low" in estimate or name.endswith(("_rate", "_share"))
    return "rate" if rate and "kappa" not in name and 0 <= estimate["value"] <= 1 else "number"


def _finalize(value: Any) -> Any:
    """Show deceptive characters of everything that is not markup of our own."""
    return value if hasattr(value, "__html__") else text.visible(value)


def _data(value: Any, shown: str) -> Markup:
    if not text.is_number(value):
        return Markup('<span class="nothing">{}</span>').format(shown)
    return Markup('<data value="{}">{}</data>').format(repr(value), shown)


_SHOW: Mapping[str, Callable[[Any], str]] = {
    "rate": text.percent,
    "points": text.points,
    "number": text.number,
}


def _interval(found: Mapping[str, Any] | None, kind: str = "rate") -> Markup:
    if not found or not text.is_number(found.get("ci_low")):
        return _data(None, text.NOTHING)
    show = _SHOW[kind]
    low, high = found["ci_low"], found["ci_high"]
    shown_low, shown_high = show(low), show(high)
    return _data(low, shown_low.removesuffix("%")) + Markup(" to ") + _data(high, shown_high)


def _setting(value: Any) -> Markup:
    if isinstance(value, bool):
        return escape(str(value).lower())
    if value is None:
        return Markup('<span class="nothing">none</span>')
    if text.is_number(value):
        return _data(value, repr(value))
    if isinstance(value, list):
        return Markup(", ").join(_setting(item) for item in value)
    return text.visible(value)


_FILTERS: dict[str, Callable[..., Any]] = {
    "pct": lambda value: _data(value, text.percent(value)),
    "num": lambda value: _data(value, text.number(value)),
    "distance": lambda value: _data(value, text.points(value).removeprefix("+")),
    "points": lambda value: _data(value, text.points(value)),
    "shown": lambda found: _data(found["value"], _SHOW[found["kind"]](found["value"])),
    "seconds": lambda value: _data(value, text.seconds(value)),
    "bytes": lambda value: _data(value, text.size(value)),
    "interval": _interval,
    "setting": _setting,
    "visible": text.visible,
    "plain": text.plain,
    "words": text.words,
}
