"""The page of several trainings side by side: one offline file."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evals.statistics.noise import noise_words
from pipeline.sweeps.choice import Choice
from pipeline.sweeps.show import HEADINGS, page_rows
from pipeline.sweeps.variant_runs import FOLDER
from schemas.files import write_text


def write_page(run_dir: Path, name: str, choice: Choice) -> Path:
    """Write RUN/sweep/index.html; returns its path."""
    found = choice.to_json()
    place = run_dir / FOLDER / "index.html"
    split = choice.split or "held-out"
    foot = (
        f"Win rates are those on {split} prompts, with 95% intervals; differences are taken prompt "
        "by prompt. The chosen one's are the best of several: its win rate on test prompts, in "
        "the report, is the one to quote."
        if choice.split == "dev"
        else "Win rates with 95% intervals, differences prompt by prompt."
    )
    html = comparison_page(
        f"{name}: {len(choice.rows)} trainings",
        [choice.why, *noise_words(found["noise"])],
        HEADINGS,
        page_rows(found["rows"], choice.chosen),
        [("The report of the chosen one", "../report/index.html")],
        foot,
    )
    write_text(place, html)
    return place


def comparison_page(
    title: str,
    lines: Sequence[str],
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    links: Sequence[tuple[str, str]],
    foot: str,
) -> str:
    """A page of sentences and a table; everything it is given is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    css = (files("stages.report.page") / "page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.jinja").render(
        title=title,
        lines=lines,
        headings=headings,
        rows=rows,
        links=links,
        foot=foot,
        css=Markup(css),
    )
