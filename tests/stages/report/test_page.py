"""index.html: self-contained, readable without a network, and true to its summary."""

import json
import re
from typing import Any

import pytest

from schemas.parquet import write_table
from schemas.results.base import read_result, write_result
from schemas.results.training import TrainingSummary
from stages.report import STAGE
from stages.report.config import ReportConfig
from stages.report.page.text import aligned, percent
from stages.training.monitoring.written import GENERATIONS
from tests.fixtures.finished_runs import FakeRun, generations, win_rate, write_evaluation
from tests.fixtures.html_page import Page, numbers_in
from tests.fixtures.reported import reported

FOOD = ReportConfig(title="Food world", world="food")


def render(run: FakeRun, *without: str, config: ReportConfig = FOOD) -> Page:
    folder = reported(run, *without, config=config)
    return Page((folder / "index.html").read_text(encoding="utf-8"))


def test_the_page_needs_nothing_else(run: FakeRun) -> None:
    page = render(run)
    assert not page.names() & {"script", "link", "iframe", "object", "embed", "img", "base"}
    for _, attributes in page.tags:
        for name in ("href", "src", "xlink:href", "action", "data", "poster", "srcset"):
            # Beside places in the page only inspect's logs of the same run are linked.
            assert (attributes.get(name) or "#").startswith(("#", "../evaluate/logs/", "../sweep/"))
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"@import|url\(|https?://|//cdn", page.source)


def test_every_tag_is_closed_in_its_place_and_every_anchor_leads_somewhere(run: FakeRun) -> None:
    page = render(run)
    assert page.misnested == []
    assert len(set(page.ids())) == len(page.ids())
    anchors = {a["href"] for tag, a in page.tags if tag == "a"}
    assert {a[1:] for a in anchors if a and a.startswith("#")} <= set(page.ids())


def test_every_number_on_the_page_is_in_the_summary(run: FakeRun) -> None:
    page = render(run)
    summary = json.loads((run.root / "report" / "summary.json").read_bytes())
    known = numbers_in(summary)
    assert len(page.numbers) > 150
    strangers = [found for found in page.numbers if found[0] not in known]
    assert strangers == []


def test_what_is_shown_is_the_number_behind_it(run: FakeRun) -> None:
    for value, shown in render(run).numbers:
        if shown.endswith("%") and not shown.startswith("<"):
            assert float(shown[:-1]) == pytest.approx(100 * value, abs=0.1)


def test_the_answer_comes_first(run: FakeRun) -> None:
    page = render(run)
    start = page.text[:900]
    for words in (
        "The policy beats its baseline",
        "94.7%",
        "91.9 to 96.6%",
        "240 held-out prompts",
        "the true rule",
        "95.2%",
        "DPO (β 0.1) on 36 preference pairs from food",
        "of one training run",
        "97.4% of held-out comparisons",
    ):
        assert words in start


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({"judge": win_rate("j", 0.3, 0.2, 0.4, 50)}, "The policy is worse than its baseline"),
        ({"judge": win_rate("j", 0.5, 0.4, 0.6, 50)}, "Cannot tell whether the policy beats"),
        ({"judge": win_rate("j", 0.5, 0.4, 0.6, 50)}, "Said of 50 prompts."),
        ({"judge": win_rate("j", 0.5, 0.4, 0.6, 50)}, "the scores are separable"),
        ({"judge": win_rate("j", None, 0.0, 1.0, 0)}, "that is not a tie"),
        ({}, "Evaluate compared nothing"),
        (
            {"judge": win_rate("j", 0.8, 0.7, 0.9, 50), "truth": win_rate("r", 0.2, 0.1, 0.3, 50)},
            "The judge and the true rule disagree",
        ),
        (
            {"judge": win_rate("j", 0.8, 0.7, 0.9, 50), "truth": win_rate("r", 0.2, 0.1, 0.3, 50)},
            "The judge and the truth disagree about the policy",
        ),
    ],
)
def test_the_verdict_in_words(run: FakeRun, rates: dict[str, Any], said: str) -> None:
    write_evaluation(run, [("hi", "a", "b")], rates)
    assert said in render(run).text


def test_a_judge_no_better_than_length_is_not_to_be_trusted(run: FakeRun) -> None:
    path = run.inputs["judge"] / "card.json"
    card = json.loads(path.read_text())
    card["lift_over_longest"] |= {"value": 0.01, "ci_low": -0.03, "ci_high": 0.05}
    path.write_text(json.dumps(card))
    assert "do not trust it" in render(run).text[:900]


@pytest.mark.parametrize("missing", STAGE.inputs)
def test_a_missing_stage_is_said_and_the_page_stands(run: FakeRun, missing: str) -> None:
    page = render(run, missing)
    assert page.misnested == []
    assert f"Not on this page: this recipe has no [{missing}]" in page.text
    anchors = [a["href"] for tag, a in page.tags if tag == "a" and a["href"]]
    assert {a[1:] for a in anchors if a.startswith("#")} <= set(page.ids())
    assert "None" not in page.text


def test_a_run_with_nothing_but_ingest(run: FakeRun) -> None:
    page = render(run, "sft", "judge", "sample", "label", "train", "evaluate")
    assert page.misnested == []
    for words in (
        "No win rate was measured",
        "This recipe trains no policy",
        "this recipe has no [sft], [judge], [sample], [label], [train] and no [evaluate]",
    ):
        assert words in page.text
    gone = {"win", "training", "outputs", "judge", "examples", "verdicts", "data", "cost"}
    assert not gone & set(page.ids())
    assert "warnings" not in page.ids()


def test_no_section_is_a_heading_alone(run: FakeRun) -> None:
    for without in (STAGE.inputs[1:], ("ingest", "evaluate")):
        source = render(run, *without).source
        for section in re.findall(r"<section id=.*?</h2>(.*?)</section>", source, flags=re.S):
            assert re.sub(r"<[^>]*>", "", section).strip()


def test_no_examples_wanted_and_no_examples_there(run: FakeRun) -> None:
    wanted_none = render(run, config=ReportConfig(examples=0))
    assert "no examples were drawn." in wanted_none.text
    assert "examples" not in wanted_none.ids()
    write_evaluation(run, [], {})
    nothing = render(run)
    assert "no examples were drawn; no verdicts were listed." in nothing.text
    assert not {"examples", "verdicts"} & set(nothing.ids())


def test_unscored_verdicts_are_shown_as_failures(run: FakeRun) -> None:
    page = render(run, config=ReportConfig(examples=40))
    assert "unscored: low label mass" in page.text
    assert "the orders disagree" in page.text


def test_both_colour_schemes_print_and_small_screens_are_provided_for(run: FakeRun) -> None:
    source = render(run).source
    for rule in ("prefers-color-scheme: dark", "@media print", "@media (max-width"):
        assert rule in source
    assert 'name="viewport" content="width=device-width' in source


def test_every_chart_says_what_it_shows(run: FakeRun) -> None:
    page = render(run)
    charts = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(charts) >= 10
    assert all(a.get("role") == "img" and a.get("aria-label") for a in charts)


def test_rates_near_the_ends_are_not_rounded_onto_them() -> None:
    assert percent(0.99999) == "99.9%"
    assert percent(1) == "100.0%"
    assert percent(0.00001) == "<0.1%"
    assert percent(0) == "0.0%"
    assert percent(None) == "–"


def test_numbers_of_one_kind_have_one_precision(run: FakeRun) -> None:
    assert [aligned(v, (5.27, -6.6e-9)) for v in (5.27, -6.6e-9)] == ["5.270", "0.000"]
    assert [aligned(v, (0.003, 0.000059)) for v in (0.003, 0.000059)] == ["0.003000", "0.000059"]
    assert [aligned(v, (1.0, 0.9487)) for v in (1.0, 0.9487, None)] == ["1.000", "0.949", "–"]
    assert [aligned(v, (3.0, 9)) for v in (3.0, 9)] == ["3", "9"]
    assert (aligned(-0.00012, ()), aligned(7094.2, ())) == ("−1.20e-04", "7,094")
    source = render(run).source
    rows = re.search(r"<h3>Benchmarks</h3>(.*?)</table>", source, flags=re.S)
    assert rows
    shown = re.findall(r"<strong><data[^>]*>([^<]*)</data>", rows[1])
    assert shown == ["0.988", "0.996", "0.104", "0.992"]
    path = run.inputs["evaluate"] / "benchmarks.json"
    path.write_text(path.read_text().replace('"mean"', '"accuracy"'))
    page = render(run)
    assert "98.8%" in page.text
    assert "+88.3+83.6 to +91.7" in page.text


def test_published_step_and_warnings_are_marked_in_the_curves(run: FakeRun) -> None:
    page = render(run)
    text = (run.root / "report" / "index.html").read_text(encoding="utf-8")
    charts = re.findall(r'<svg class="chart".*?</svg>', text, flags=re.S)
    training = [c for c in charts if "by step" in c and "published at step 80" in c]
    titles = [re.search("<title>(.*?)</title>", c) for c in training]
    assert [t[1] for t in titles if t] == [
        "Loss",
        "Accuracy",
        "Rewards",
        "Margin",
        "Log-probability",
        "What it writes",
        "Length of what it writes",
    ]
    warned = [c for c in training if "warning at step 40" in c]
    assert [m[1] for c in warned if (m := re.search("<title>(.*?)</title>", c))] == [
        "Length of what it writes"
    ]
    assert "Step 80 of 120 is published: the lowest eval_loss, 0.0721, of 6 steps" in page.text
    assert "Step 40: the sampled completions are 14 tokens long on average" in page.text
    assert "It ended at 25" in page.text


def test_several_seeds_say_whether_the_gain_exceeds_a_rerun(run: FakeRun) -> None:
    part = {"value": 0.01, "low": 0.004, "high": 0.09}
    noise = {
        **{"seeds": 3, "rate": 0.93, "low": 0.9, "high": 0.96, "next_low": 0.88, "next_high": 0.98},
        "exceeds_a_rerun": True,
        "components": [{"source": "training seed", **part}, {"source": "prompts", **part}],
    }
    sweep = run.root / "sweep"
    copied = sweep / "seed-1" / "train"
    copied.mkdir(parents=True)
    manifest = (run.inputs["train"] / "manifest.json").read_text()
    (copied / "manifest.json").write_text(manifest)
    said = {"chosen": "seed-1", "split": "test", "noise": noise}
    (sweep / "sweep.json").write_text(json.dumps(said))
    page = render(run)
    assert page.misnested == []
    assert "of one training run" not in page.text
    assert "Over 3 trainings: win rate 93.0%" in page.text
    assert "the gain exceeds what a rerun moves" in page.text
    assert "3 seeds say little" in page.text
    # Trained otherwise since: what the seeds said is not of this training.
    changed = json.loads(manifest) | {"fingerprint": "0" * 64, "sha256": None}
    (copied / "manifest.json").write_text(json.dumps(changed))
    assert "of one training run" in render(run).text


def test_what_the_policy_wrote_is_escaped(run: FakeRun) -> None:
    bad = '<script>alert("x")</script>'
    rows = [
        row | {"completion": [{"role": "assistant", "content": bad}]} for row in generations([0])
    ]
    write_table(run.inputs["train"] / "generations.parquet", GENERATIONS, rows)
    page = render(run)
    assert "script" not in page.names()
    assert bad in page.text


def test_sampled_tokens_and_the_drift_between_sampler_and_trainer_are_shown(run: FakeRun) -> None:
    page = render(run)
    assert "72 sampled completions are trained as the tokens they were drawn as" in page.text
    assert "The text of 3 (4.2%) would have given other tokens" in page.text
    assert "640 drawn tokens differ by 0.00012 nats on average, 0.0017 at the 99th" in page.text
    assert "do not run the same model" not in page.text
    folder = run.root / "train"
    summary = read_result(folder / "summary.json", TrainingSummary)
    assert summary.drift is not None
    far = summary.drift.model_copy(update={"p99": 0.6})
    write_result(folder / "summary.json", summary.model_copy(update={"drift": far}))
    assert "Sampler and trainer do not run the same model" in render(run).text


def test_without_sampled_tokens_nothing_is_said_of_them(run: FakeRun) -> None:
    write_result(run.root / "train" / "summary.json", TrainingSummary())
    assert "Sampled tokens" not in render(run).text
