"""The page's evaluation: rates side by side, pairs of models, small categories, every verdict."""

import json
from typing import Any

from schemas.results.base import Estimate, write_result
from schemas.results.measures import Measure
from schemas.results.win_rates import Finding, ModelPair, WinRates
from stages.report import STAGE
from stages.report.config import ReportConfig
from stages.report.gather.outcome.verdict_list import verdict_list
from tests.fixtures.finished_runs import FakeRun, card, comparison, completion, verdict, win_rate
from tests.fixtures.html_page import Page


def render(run: FakeRun, **settings: Any) -> tuple[Page, dict[str, Any]]:
    context = run.context()
    STAGE.run(ReportConfig(**settings), context)
    summary = json.loads((context.output / "summary.json").read_bytes())
    return Page((context.output / "index.html").read_text(encoding="utf-8")), summary


def write_rates(run: FakeRun, **more: Any) -> None:
    rates = win_rate("preference_model", 0.9473, 0.9187, 0.9661, 240).model_copy(update=more)
    write_result(run.inputs["evaluate"] / "win_rates.json", WinRates({"judge": rates}))


def test_the_declared_measure_is_marked(run: FakeRun) -> None:
    rows: dict[Measure, str] = {"win_rate": "soft", "discrete": "each prompt won, tied or lost"}
    for measure, row in rows.items():
        write_rates(run, headline=win_rate("j", 0.9, 0.8, 0.95, 240, measure).headline)
        page, _ = render(run)
        assert f"Win rate, {row} declared" in page.text
        assert page.text.count(" declared9") == 1


def test_small_categories_are_counted_and_not_rated(run: FakeRun) -> None:
    rates = {name: win_rate("j", 0.7123, 0.6, 0.8, n) for name, n in (("code", 49), ("chat", 50))}
    write_rates(run, categories=rates)
    page, summary = render(run)
    small = summary["win_rate"]["judge"]["categories"]["code"]
    assert (small["n"], small["too_small"], small["win_rate"]) == (49, True, None)
    assert "too few prompts49" in page.text
    assert page.text.count("71.2%") == 1
    assert "fewer than 50 prompts" in page.text


def test_models_are_compared_in_pairs(run: FakeRun) -> None:
    found = ModelPair(
        first="policy",
        second="base",
        difference=Estimate(value=0.1234, ci_low=0.05, ci_high=0.2, n=240),
        p_value=0.0101,
        p_holm=0.0303,
        minimum_detectable_effect=0.0456,
        verdict="better",
    )
    write_rates(run, differences=[found])
    page, _ = render(run)
    assert "policy, basethe judge+12.3+5.0 to +20.00.0100.0304.6240better" in page.text


def test_warnings_have_names_and_are_said_once(run: FakeRun) -> None:
    finding = Finding(name="same_family", detail="judge x and policy y are kin")
    write_rates(run, detectors=[finding, finding])
    page, _ = render(run)
    assert page.text.count("same_family") == 1
    write_rates(run, detectors=[])
    assert "Looked for and not found" in render(run)[0].text


def test_a_judge_below_its_floors_is_alarming(run: FakeRun) -> None:
    path = run.inputs["judge"] / "card.json"
    missed = {"below_floors": ["agreement 0.512 is below 0.7"]}
    write_result(path, card().model_copy(update=missed))
    assert "Below the recipe's floors: agreement 0.512" in render(run)[0].text


def test_every_verdict_can_be_read_in_both_orders(run: FakeRun) -> None:
    page, summary = render(run)
    listed = summary["verdicts"]
    assert len(listed["entries"]) == listed["n_comparisons"] == 40
    assert sum(listed["outcomes"].values()) == 40
    entries = {tuple(v["shown_first"] for v in e["verdicts"]) for e in listed["entries"]}
    assert entries == {("policy", "baseline", "policy", "baseline")}
    opened = [a for tag, a in page.tags if tag == "details"]
    assert sum("v" in str(a.get("class")).split() for a in opened) == 40
    assert "script" not in page.names()
    shown = [a["id"] for tag, a in page.tags if tag == "input"]
    assert shown == ["show-all", *(f"show-{outcome}" for outcome in listed["outcomes"])]


def test_of_many_verdicts_a_fair_sample_is_listed(run: FakeRun) -> None:
    _, few = render(run, verdicts=10, seed=3)
    _, more = render(run, verdicts=20, seed=3)
    ids = [{e["comparison_id"] for e in found["verdicts"]["entries"]} for found in (few, more)]
    assert len(ids[0]) == 10
    assert ids[0] < ids[1]


def test_doubtful_verdicts_come_first_with_their_replies() -> None:
    compared = [
        comparison(completion("pol", i, f"q{i}", "x"), completion("base", i, f"q{i}", "y"))
        for i in range(4)
    ]
    agreed, split, failed, unseen = compared
    rows = [verdict(agreed, "j", order, 0.9) for order in ("ab", "ba")]
    rows += [verdict(split, "j", "ab", 0.9) | {"raw": "r" * 500}, verdict(split, "j", "ba", 0.1)]
    rows += [verdict(failed, "j", "ab", 0.9), verdict(failed, "j", "ba", None, "low_label_mass")]
    listed = verdict_list(compared, rows, "j", 10, 0)
    assert [e["outcome"] for e in listed["entries"]] == ["split", "unscored", "unscored", "policy"]
    assert listed["outcomes"] == {"split": 1, "unscored": 2, "policy": 1}
    first = listed["entries"][0]["verdicts"][0]
    assert (len(first["reply"]), first["reply_more"]) == (400, 100)
    assert (first["p_policy"], first["shown_first"]) == (0.9, "policy")
    reasons = {v["unscored_reason"] for e in listed["entries"] for v in e["verdicts"]}
    assert reasons == {None, "low_label_mass"}
    assert {e["comparison_id"] for e in listed["entries"]} >= {unseen["comparison_id"]}
