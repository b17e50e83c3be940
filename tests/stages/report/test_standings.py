"""Where several models stand, what judges cost, what the evaluation before said, and filters."""

import json
from typing import Any

from schemas.manifest import MANIFEST_NAME
from schemas.results.base import Estimate
from schemas.results.win_rates import ModelPair, ModelRating, Ratings
from stages.report.gather.outcome.verdict_list import verdict_list
from tests.fixtures.finished_runs import FakeRun, comparison, completion, verdict
from tests.stages.report.test_evaluation_section import render, write_rates
from tests.stages.report.test_people import labels_of


def pair(first: str, second: str, value: float) -> ModelPair:
    found = Estimate(value=value, ci_low=value - 0.1, ci_high=value + 0.1, n=240)
    return ModelPair(
        first=first, second=second, difference=found, p_value=0.01, p_holm=0.02, verdict="better"
    )


def test_several_models_have_a_leaderboard_and_one_has_none(run: FakeRun) -> None:
    write_rates(run, differences=[pair("policy", "baseline", 0.2)])
    page, summary = render(run)
    assert summary["leaderboard"] == []
    assert "Leaderboard" not in page.text
    pairs = [("policy", "best_of_4", -0.1), ("policy", "baseline", 0.2)]
    more = [pair(*one) for one in (*pairs, ("best_of_4", "baseline", 0.3))]
    write_rates(run, differences=more)
    page, summary = render(run)
    rows = [(row["name"], round(row["win_rate"], 3)) for row in summary["leaderboard"]]
    assert rows == [("best_of_4", 0.8), ("policy", 0.7), ("baseline", 0.5)]
    assert "Leaderboard" in page.text
    assert "80.0%70.0 to 90.0%" in page.text
    assert "Elo" not in page.text


def test_ratings_stand_on_the_leaderboard(run: FakeRun) -> None:
    pairs = [("policy", "base", -0.1), ("policy", "baseline", 0.2), ("base", "baseline", 0.3)]
    models = [
        ModelRating(name="base", elo=1240.6, ci_low=1180.2, ci_high=1300.9, n=240),
        ModelRating(name="policy", elo=1147.2, ci_low=1090.0, ci_high=1210.0, n=240),
        ModelRating(name="baseline", elo=1000.0, n=480),
    ]
    rated = Ratings(models=models, anchor="baseline", n_pairs=3, n_prompts=240, draws=1000)
    write_rates(run, differences=[pair(*one) for one in pairs], ratings=rated)
    page, summary = render(run)
    board = {row["name"]: (row["elo"], row["elo_low"]) for row in summary["leaderboard"]}
    assert board == {
        "base": (1240.6, 1180.2), "policy": (1147.2, 1090.0), "baseline": (1000.0, None)
    }  # fmt: skip
    assert "1,2411,180 to 1,301" in page.text
    assert "over 3 pairs of models and 240 prompts" in page.text
    assert "Somebody won or lost against all others" not in page.text


def changed(run: FakeRun, stage: str, **fields: Any) -> None:
    path = run.inputs[stage] / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_cost_is_shown_where_a_judge_was_paid(run: FakeRun) -> None:
    assert "Cost, in the unit" not in render(run)[0].text
    counts = {"judge_prompt_tokens": 1200, "judge_completion_tokens": 30}
    changed(run, "evaluate", counts=counts | {"judge_cost_millionths": 1_250_000})
    page, summary = render(run)
    assert summary["spent"] == [
        {"stage": "evaluate", "prompt_tokens": 1200, "completion_tokens": 30, "cost": 1.25}
    ]
    assert "evaluate1,200301.25" in page.text


def test_the_change_since_the_evaluation_before(run: FakeRun) -> None:
    write_rates(run)
    first, summary = render(run)
    assert summary["previous"] is None
    assert "evaluation before" not in first.text
    summary = render(run)[1]  # of the same evaluation: there is no change to tell
    assert summary["previous"] is None
    changed(run, "evaluate", fingerprint="a" * 64)
    page, summary = render(run)
    assert summary["previous"]["change"] == 0
    assert "The evaluation before this one: 94.7%" in page.text
    assert render(run)[1]["previous"] == summary["previous"]
    (run.root / "report" / "summary.json").write_text("{")
    assert render(run)[1]["previous"] is None


def test_verdicts_know_where_judges_and_people_disagree() -> None:
    compared = [
        comparison(completion("pol", i, f"q{i}", "x"), completion("base", i, f"q{i}", "y"))
        for i in range(3)
    ]
    rows = [verdict(c, "j", order, 0.9) for c in compared for order in ("ab", "ba")]
    rows += [verdict(compared[0], "k", order, 0.1) for order in ("ab", "ba")]
    people = {compared[1]["comparison_id"]: "B", compared[2]["comparison_id"]: "A"}
    listed = verdict_list(compared, rows, "j", 10, 0, people)
    found = {
        entry["comparison_id"]: (entry["judges_disagree"], entry["people_disagree"])
        for entry in listed["entries"]
    }
    assert [found[c["comparison_id"]] for c in compared] == [
        (True, False),
        (False, True),
        (False, False),
    ]


def test_the_page_says_what_people_said_of_a_pair(run: FakeRun) -> None:
    labels_of(run, run.root / "audit" / "labels.jsonl", 20)
    page, _ = render(run)
    assert page.text.count("People say: ") == 20
    entries = [a for tag, a in page.tags if tag == "details" and "data-people" in a]
    assert 0 < len(entries) <= 20
