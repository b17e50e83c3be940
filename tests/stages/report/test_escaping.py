"""Nothing that a model or a data set wrote can become markup, or hide what it says."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape

from evals.safe_text import is_deceptive, plain, visible
from stages.report import STAGE
from stages.report.config import ReportConfig
from tests.fixtures.finished_runs import FakeRun, win_rate, write_evaluation
from tests.fixtures.html_page import Page

ATTACKS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><script>alert(2)</script>",
    "</title></head><body onload=alert(3)>",
    "<!-- <b>",
    "]]><svg onload=alert(4)>",
    "{{ 7*7 }} {% raw %} {{ title }} {# x #}",
    "&lt;script&gt; &amp;",
    "javascript:alert(5)",
)


def render(run: FakeRun, config: ReportConfig) -> Page:
    context = run.context()
    STAGE.run(config, context)
    return Page((context.output / "index.html").read_text(encoding="utf-8"))


def assert_tame(page: Page) -> None:
    assert page.misnested == []
    assert not page.names() & {"script", "img", "iframe", "b-attack"}
    assert [t for t, _ in page.tags].count("body") == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_text_everywhere(run: FakeRun, attack: str) -> None:
    write_evaluation(
        run,
        [(attack, attack, attack + "!"), (attack + "?", "", attack)],
        {"judge": win_rate(attack, 0.8, 0.7, 0.9, 2), attack: win_rate(attack, 0.8, 0.7, 0.9, 2)},
    )
    card = run.inputs["judge"] / "card.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"judge": attack, attack: 0.5}))
    benchmark = {"task": attack, "model": attack, "scorer": attack, "metric": attack}
    tasks = {"tasks": [benchmark | {"error": attack}, benchmark | {"value": 0.5, "error": None}]}
    (run.inputs["evaluate"] / "benchmarks.json").write_text(json.dumps(tasks))
    run.stage("sample", {attack: attack, "path": attack}, {attack: 3}, warnings=(attack,))
    page = render(run, ReportConfig(title=attack, examples=2))
    assert_tame(page)
    # It is shown as it was written, on the page and in the summary.
    assert page.text.count(" ".join(attack.split())) >= 8
    summary = json.loads((run.root / "report" / "summary.json").read_bytes())
    assert summary["title"] == attack


def test_bidi_controls_and_other_invisible_characters_are_shown(run: FakeRun) -> None:
    hidden = {"\u202e": "U+202E", "\u2066": "U+2066", "\u200b": "U+200B", "\x00": "U+0000",
              "\x1b": "U+001B", "\u2028": "U+2028", "\ufeff": "U+FEFF", "\U000e0041": "U+E0041",
              "\x85": "U+0085", "\r": "U+000D"}  # fmt: skip
    texts = [(f"q{i}", f"a{c}z", "b") for i, c in enumerate(hidden)]
    write_evaluation(run, texts)
    page = render(run, ReportConfig(examples=len(texts)))
    for character, name in hidden.items():
        assert f"a{name}z" in page.text
        assert character not in page.source
    assert_tame(page)


def test_what_text_needs_stays_text() -> None:
    for text in ("a\tb\nc", "👩‍👩‍👧", "می‌خواهم", "naïve", "עברית", "日本語"):
        assert visible(text) == escape(text)
        assert plain(text) == text


def test_lone_surrogates_survive_into_page_and_summary(run: FakeRun) -> None:
    folder = run.inputs["judge"]
    card = json.loads((folder / "card.json").read_text()) | {"judge": "broken \ud83d half"}
    (folder / "card.json").write_text(json.dumps(card))
    assert "U+D83D" in render(run, ReportConfig()).text
    summary = json.loads((run.root / "report" / "summary.json").read_bytes())
    assert summary["judge"]["judge"] == "broken \ud83d half"


def test_huge_texts_are_cut_and_the_rest_is_counted(run: FakeRun) -> None:
    write_evaluation(run, [("long " * 20_000, "w" * 100_000, "short")])
    page = render(run, ReportConfig(examples=1))
    assert len(page.source) < 200_000
    assert "97,000 more characters are not shown" in page.text
    assert "overflow-wrap: anywhere" in page.source


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters()))
def test_escaped_text_holds_no_markup_and_no_deception(text: str) -> None:
    shown = str(visible(text))
    stripped = shown.replace('<span class="control">', "").replace("</span>", "")
    assert not set("<>\"'") & set(stripped)
    assert not any(map(is_deceptive, shown))
    assert not any(map(is_deceptive, plain(text)))
