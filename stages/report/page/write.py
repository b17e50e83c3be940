"""The page: one HTML file that needs nothing else, made of the summary alone."""

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from evals.win_rate.categories import MIN_CATEGORY
from schemas.files import writing_file
from schemas.results.report import ReportSummary
from schemas.results.win_rates import WinRateReport
from schemas.stage import StageContext
from stages.report.charts import lines
from stages.report.config import ReportConfig
from stages.report.gather.outcome.rounds import rounds_figure
from stages.report.gather.sources import STAGE_ORDER
from stages.report.gather.summary import summarize
from stages.report.page import figures, sections, text
from stages.report.page.data_figures import data_figures
from stages.report.page.markup import FILTERS, finalize
from stages.report.page.wording import (
    JUDGE_NAMES,
    OUTCOME_WORDS,
    STAGE_WORDS,
    card_rows,
    measures,
    model_words,
)

_HERE = Path(__file__).parent
PAGE_NAME = "index.html"
SUMMARY_NAME = "summary.json"


def write_report(config: ReportConfig, context: StageContext) -> Mapping[str, int]:
    """Gather, render and write summary.json and index.html; returns counts for the manifest."""
    summary = summarize(config, context)
    # Lone surrogates become \udXXX, which is how JSON spells them anyway.
    data = json.dumps(summary.to_json(), ensure_ascii=False, indent=1, allow_nan=False)
    _write(context.output / SUMMARY_NAME, data, errors="backslashreplace")
    page = render_page(summary)
    _write(context.output / PAGE_NAME, page, errors="strict")
    shown = summary.examples
    return {
        "examples": len(shown["random"]) + len(shown["doubtful"]),
        "warnings": len(summary.warnings),
        "page_bytes": len(page.encode()),
    }


def _write(path: Path, content: str, errors: str) -> None:
    with writing_file(path) as temporary:
        temporary.write_text(content, encoding="utf-8", errors=errors, newline="\n")


@cache
def page_template() -> Template:
    """The compiled template of the page, once a process. It escapes everything it is given."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    environment.filters.update(FILTERS)
    environment.tests["measured"] = text.is_number
    return environment.get_template("template.html.jinja")


def render_page(summary: ReportSummary) -> str:
    """The page of a summary. Everything it is given is escaped, whoever wrote it."""
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    shown = summary.to_json()
    return page_template().render(
        shown,
        sections=sections.shown(shown),
        absent=sections.absent(shown),
        measures=measures(summary.benchmarks),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        order=STAGE_ORDER,
        charts=lines,
        figures=figures,
        data_figures=data_figures,
        rounds_figure=rounds_figure,
        card_rows=card_rows(summary.judge) if summary.judge else [],
        label=WinRateReport.label,
        judge_names=JUDGE_NAMES,
        outcome_words=OUTCOME_WORDS,
        min_category=MIN_CATEGORY,
        stage_words=STAGE_WORDS,
        model_words=model_words,
    )
