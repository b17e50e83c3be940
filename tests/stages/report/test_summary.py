"""summary.json: the keys others read, and numbers that are the stages' own."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from evals.win_rate.win_rate import win_rate as recomputed
from schemas.errors import DataError
from schemas.parquet import read_rows, write_table
from schemas.tables import COMPARISONS, VERDICTS
from stages.report import STAGE
from stages.report.config import ReportConfig
from stages.report.gather.generations import shown_steps
from tests.fixtures.finished_runs import (
    FakeRun,
    comparison,
    completion,
    declared,
    win_rate,
    write_evaluation,
    write_metrics,
)
from tests.fixtures.reported import reported

FOOD = ReportConfig(world="food")


def summary_of(run: FakeRun, *without: str, config: ReportConfig = FOOD) -> dict[str, Any]:
    folder = reported(run, *without, config=config)
    found: dict[str, Any] = json.loads((folder / "summary.json").read_bytes())
    return found


def all_numbers(value: Any) -> set[float]:
    if isinstance(value, dict):
        return set().union(*map(all_numbers, value.values()))
    if isinstance(value, list):
        return set().union(*map(all_numbers, value))
    return {float(value)} if isinstance(value, int | float) else set()


def test_the_required_rates_are_the_stages_numbers(run: FakeRun) -> None:
    found = summary_of(run)
    world = found["world"]
    assert world["preferred_rate"]["policy"] == {
        "value": 0.9875, "standard_error": 0.01,
        "ci_low": pytest.approx(0.9665), "ci_high": 1.0, "n": 240,
    }  # fmt: skip
    assert world["preferred_rate"]["baseline"]["value"] == 0.1042
    assert world["well_formed_rate"]["policy"]["value"] == 0.9958
    assert world["well_formed_rate"]["baseline"]["value"] == 0.9917
    assert world["preferred_rate"]["change"]["value"] == 0.8833
    assert found["judge"]["accuracy"] == {
        "value": 0.974, "standard_error": None, "ci_low": 0.953, "ci_high": 0.986, "n": 419,
    }  # fmt: skip
    for judge, value in (("judge", 0.9473), ("truth", 0.9521)):
        rate = found["win_rate"][judge]
        assert rate["value"] == rate["win_rate"] == value
        assert {"ci_low", "ci_high", "n", "n_unscored", "position"} <= rate.keys()


def test_accuracy_as_inspect_names_a_mean_is_found_too(run: FakeRun) -> None:
    path = run.inputs["evaluate"] / "benchmarks.json"
    path.write_text(path.read_text().replace('"mean"', '"accuracy"'))
    assert summary_of(run)["world"]["preferred_rate"]["policy"]["value"] == 0.9875


def test_only_a_report_of_a_world_speaks_of_one(run: FakeRun) -> None:
    assert summary_of(run, config=ReportConfig())["world"] is None


def test_same_inputs_same_bytes(run: FakeRun) -> None:
    context = run.context()
    STAGE.run(FOOD, context)
    names = ("summary.json", "index.html")
    first = {name: (context.output / name).read_bytes() for name in names}
    STAGE.run(FOOD, context)
    assert {name: (context.output / name).read_bytes() for name in names} == first
    assert sorted(p.name for p in context.output.iterdir()) == sorted(names)


@pytest.mark.parametrize(
    ("value", "low", "high", "conclusion"),
    [
        (0.7, 0.61, 0.78, "better"),
        (0.3, 0.22, 0.39, "worse"),
        (0.52, 0.43, 0.61, "cannot_tell"),
        (0.5, 0.5, 0.5, "cannot_tell"),
        (None, 0.0, 1.0, "not_measured"),
    ],
)
def test_the_interval_decides(
    run: FakeRun, value: float | None, low: float, high: float, conclusion: str
) -> None:
    write_evaluation(run, [("hi", "a", "b")], {"judge": win_rate("j", value, low, high, 90)})
    found = summary_of(run)
    assert found["verdict"]["conclusion"] == conclusion
    assert found["win_rate"]["judge"]["value"] == value


def test_the_declared_measure_is_the_one_that_is_shown(run: FakeRun) -> None:
    rate = win_rate("j", 0.8, 0.7, 0.9, 90)
    other = declared(rate, "length_controlled", 0.4, 0.35, 0.45)
    write_evaluation(run, [("hi", "a", "b")], {"judge": other})
    found = summary_of(run)
    assert found["verdict"]["conclusion"] == "worse"
    shown = found["win_rate"]["judge"]
    assert (shown["value"], shown["ci_high"]) == (0.4, 0.45)
    assert shown["measure"] == "length-controlled win rate"
    assert (shown["soft"]["win_rate"], shown["soft"]["ci_low"]) == (0.8, 0.7)


def test_a_declared_measure_that_could_not_be_taken_leaves_it_open(run: FakeRun) -> None:
    rate = win_rate("j", 0.8, 0.7, 0.9, 90)
    other = declared(rate, "length_controlled", None)
    write_evaluation(run, [("hi", "a", "b")], {"judge": other})
    found = summary_of(run)
    assert found["verdict"]["conclusion"] == "cannot_tell"
    assert found["win_rate"]["judge"]["value"] is None


def test_a_judge_that_contradicts_the_truth_is_found_out(run: FakeRun) -> None:
    rates = {"judge": win_rate("j", 0.8, 0.7, 0.9, 90), "truth": win_rate("r", 0.2, 0.1, 0.3, 90)}
    write_evaluation(run, [("hi", "a", "b")], rates)
    verdict = summary_of(run)["verdict"]
    assert (verdict["conclusion"], verdict["truth"]) == ("better", "worse")
    assert verdict["agrees_with_truth"] is False


def test_without_a_judge_the_truth_is_the_headline(run: FakeRun) -> None:
    write_evaluation(run, [("hi", "a", "b")], {"truth": win_rate("r", 0.8, 0.7, 0.9, 90)})
    verdict = summary_of(run)["verdict"]
    assert (verdict["by"], verdict["conclusion"]) == ("truth", "better")
    assert verdict["agrees_with_truth"] is None


@pytest.mark.parametrize("missing", STAGE.inputs)
def test_any_stage_may_be_missing(run: FakeRun, missing: str) -> None:
    found = summary_of(run, missing)
    assert found["stages"][missing] == {"skipped": True}
    assert missing not in found["settings"]


def test_a_stage_marked_as_skipped_is_no_stage(run: FakeRun) -> None:
    shutil.rmtree(run.inputs["sft"])
    run.stage("sft", skipped=True)
    found = summary_of(run)
    assert found["stages"]["sft"] == {"skipped": True}
    assert "sft" not in found["other_training"]


def test_rejects_are_counted_by_reason(run: FakeRun) -> None:
    assert summary_of(run)["stages"]["label"]["rejects"] == [
        {"table": "preference_pairs", "reason": "tie", "rows": 2},
        {"table": "preference_pairs", "reason": "low_margin", "rows": 1},
    ]


def test_every_histogram_counts_every_value_once(run: FakeRun) -> None:
    found = summary_of(run)
    histograms = (
        found["preference_data"]["lengths"],
        found["preference_data"]["margins"],
        found["outputs"]["lengths"],
        found["scores"],
    )
    for histogram in histograms:
        for group in histogram["groups"].values():
            assert sum(group["counts"]) == group["n"]
            assert len(histogram["edges"]) == len(group["counts"]) + 1
    assert found["preference_data"]["lengths"]["groups"]["chosen"]["n"] == 40
    # chosen are the even rows of 2 + i % 7: 2, 4, 6, 8, 3, 5, 7, and again
    assert found["preference_data"]["lengths"]["groups"]["chosen"]["median"] == 5


def test_lengths_are_characters_where_no_tokens_are_known(run: FakeRun) -> None:
    assert summary_of(run)["preference_data"]["lengths"]["unit"] == "tokens"
    lengths = summary_of(run, "sample")["preference_data"]["lengths"]
    assert lengths["unit"] == "characters"
    assert lengths["groups"]["rejected"]["max"] == len("food 79")


def test_scores_average_the_orders_of_a_prompt(run: FakeRun) -> None:
    found = summary_of(run)
    rows = read_rows(run.inputs["evaluate"] / "verdicts.parquet", VERDICTS)
    rate = recomputed(row for row in rows if row["judge"] == "preference_model")
    group = found["scores"]["groups"]["preference_model"]
    assert group["n"] == rate.n
    assert group["mean"] == pytest.approx(rate.win_rate)


def test_first_last_and_best_of_a_metric(run: FakeRun) -> None:
    rows = [
        {"step": 0, "eval_loss": 0.9},
        {"step": 1, "loss": 0.8, "learning_rate": 1e-3},
        {"step": 2, "loss": 0.2, "learning_rate": 0.0, "eval_loss": 0.3},
        {"step": 3, "loss": 0.5, "learning_rate": 0.0, "eval_loss": math.nan},
    ]
    write_metrics(run.inputs["train"], rows)
    found = summary_of(run)["training"]
    assert found["steps"] == 3
    assert found["metrics"]["loss"] == {"first": 0.8, "last": 0.5, "best": 0.2, "best_step": 2}
    assert found["metrics"]["eval_loss"]["last"] == 0.3
    assert found["metrics"]["learning_rate"]["best"] is None
    assert found["curves"]["eval_loss"] == [[0, 0.9], [2, 0.3]]


def test_metrics_are_read_from_json_lines_where_there_is_no_table(run: FakeRun) -> None:
    folder = run.inputs["train"]
    rows = pq.read_table(folder / "metrics.parquet").to_pylist()
    table = summary_of(run)["training"]
    (folder / "metrics.parquet").unlink()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert summary_of(run)["training"] == table


def test_a_long_curve_keeps_its_ends(run: FakeRun) -> None:
    write_metrics(run.inputs["train"], [{"step": i, "loss": float(i)} for i in range(5001)])
    curve = summary_of(run)["training"]["curves"]["loss"]
    assert len(curve) <= 240
    assert curve[0] == [0, 0.0]
    assert curve[-1] == [5000, 5000.0]


def test_examples_do_not_depend_on_the_number_asked_for(run: FakeRun) -> None:
    few = summary_of(run, config=ReportConfig(examples=3))["examples"]["random"]
    more = summary_of(run, config=ReportConfig(examples=9))["examples"]["random"]
    assert len(few) == 3
    assert more[:3] == few
    other = summary_of(run, config=ReportConfig(examples=9, seed=1))["examples"]["random"]
    assert [e["comparison_id"] for e in other] != [e["comparison_id"] for e in more]


def test_doubtful_examples_are_shown_worst_first(run: FakeRun) -> None:
    found = summary_of(run)["examples"]
    outcomes = [e["outcome"] for e in found["doubtful"]]
    assert "policy" not in outcomes
    assert outcomes == sorted(outcomes, key=["baseline", "split", "unscored", "tie"].index)
    shown = [e["comparison_id"] for e in [*found["random"], *found["doubtful"]]]
    assert len(set(shown)) == len(shown)


def test_a_constant_policy_shows_in_the_numbers(run: FakeRun) -> None:
    models = summary_of(run)["outputs"]["models"]
    assert models["policy"]["distinct"] == 1
    assert models["policy"]["most_common_share"] == 1.0
    assert models["baseline"]["empty_share"] == pytest.approx(8 / 40)


def test_rates_are_never_percent(run: FakeRun) -> None:
    found = summary_of(run)
    rates = [found["win_rate"], found["world"], found["judge"]["accuracy"]]
    assert all(0 <= rate["value"] <= 1 for rate in found["win_rate"].values())
    assert all(n <= 1 or n.is_integer() for n in all_numbers(rates))


@pytest.mark.parametrize(
    ("stage", "name"),
    [("evaluate", "win_rates.json"), ("judge", "card.json"), ("train", "metrics.parquet"),
     ("evaluate", "verdicts.parquet"), ("label", "preference_pairs.parquet")],
)  # fmt: skip
def test_a_broken_file_is_named(run: FakeRun, stage: str, name: str) -> None:
    path: Path = run.inputs[stage] / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=name):
        summary_of(run)


def test_without_label_the_pairs_are_what_people_said(run: FakeRun) -> None:
    base = [completion("m", i, f"p{i}", "x" * (i + 1)) for i in range(6)]
    rows = [
        comparison(a, b) | {"label": label, "label_source": "human", "strength": 2.0}
        for a, b, label in zip(base[::2], base[1::2], ("A", "B", "Tie"), strict=True)
    ]
    write_table(run.inputs["ingest"] / "comparisons.parquet", COMPARISONS, rows)
    pairs = summary_of(run, "label")["preference_data"]
    assert pairs["n"] == 2  # a tie is no pair
    assert pairs["label_sources"] == {"human": 2}
    # A: x over xx; B: xxxx over xxx
    assert pairs["lengths"]["unit"] == "characters"
    assert pairs["lengths"]["groups"]["chosen"]["mean"] == pytest.approx((1 + 4) / 2)
    assert pairs["lengths"]["groups"]["rejected"]["mean"] == pytest.approx((2 + 3) / 2)
    assert pairs["margins"]["unit"] == "strength"


def test_the_published_step_stands_beside_the_others_that_were_kept(run: FakeRun) -> None:
    found = summary_of(run)["checkpoints"]
    assert (found["published_step"], found["final_step"], found["measure"]) == (
        80,
        120,
        "eval_loss",
    )
    assert [(c["step"], c["value"]) for c in found["kept"]] == [(80, 0.0721), (120, 0.0845)]
    assert summary_of(run, "train")["checkpoints"] is None


def test_what_the_policy_wrote_is_shown_at_first_middle_published_and_last_step(
    run: FakeRun,
) -> None:
    found = summary_of(run)["generations"]
    assert found["steps"] == [0, 60, 80, 120]
    assert (found["n_prompts"], len(found["prompts"])) == (6, 4)
    first = found["prompts"][0]
    assert first["prompt"] == "what does person 0 like?"
    assert [c["content"] for c in first["completions"]] == ["soup", "pizza", "pizza", "pizza"]
    assert [c["ended"] for c in first["completions"]] == [True, True, True, False]
    (run.inputs["train"] / "generations.parquet").unlink()
    assert summary_of(run)["generations"] is None


@pytest.mark.parametrize(
    ("measured", "published", "shown"),
    [
        ([0], 0, [0]),
        ([0, 9], 9, [0, 9]),
        ([0, 2, 4, 6, 8, 9], 6, [0, 6, 9]),
        ([0, 5], None, [0, 5]),
    ],
)
def test_shown_steps(measured: list[int], published: int | None, shown: list[int]) -> None:
    assert shown_steps(measured, published) == shown
