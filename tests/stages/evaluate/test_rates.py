"""From prompts to win rates, their comparisons and yardsticks."""

import json

import pytest

from evals import food_world
from evals.files.verdicts import read_judged
from evals.judges import LengthJudge, save_judge
from evals.models.checkpoints import ModelSource
from evals.models.contenders import OutputsFile
from evals.models.samplers import (
    SampleRequest,
)
from evals.win_rate.report import win_rate_report
from schemas.errors import ConfigError
from schemas.parquet import read_rows
from schemas.stage import Runtime, SilentProgress
from schemas.tables import COMPARISONS, COMPLETIONS, VERDICTS
from stages.evaluate import STAGE
from stages.evaluate.config import EvaluateConfig
from tests.fixtures.scripted_evaluation import PEOPLE, TRUTH, World, always, any_food, rates


def test_the_better_policy_wins_by_the_truth(world: World) -> None:
    context = world.context()
    counts = STAGE.run(TRUTH, context)
    policy = read_rows(context.output / "completions_policy.parquet", COMPLETIONS)
    baseline = read_rows(context.output / "completions_baseline.parquet", COMPLETIONS)
    comparisons = read_rows(context.output / "comparisons.parquet", COMPARISONS)
    verdicts = read_rows(context.output / "verdicts.parquet", VERDICTS)
    lucky = sum(row["completion"][0]["content"] == "pizza" for row in baseline)
    assert 0 < lucky < 24

    found = rates(context.output)
    assert set(found) == {"truth"}
    truth = found["truth"]
    assert truth["win_rate"] == pytest.approx((24 - lucky / 2) / 24)
    assert (truth["n"], truth["n_wins"], truth["n_ties"], truth["n_losses"]) == (
        24,
        24 - lucky,
        lucky,
        0,
    )
    assert truth["n_identical"] == lucky
    assert truth["verdict"] == "better"
    assert truth["judge"] == "rule:food"
    assert truth["categories"]["even"]["n"] == 12

    assert {row["label"] for row in comparisons} == {None}
    ids = {row["completion_id"]: row for row in policy}
    assert all(ids[c["completion_a_id"]]["completion"] == c["completion_a"] for c in comparisons)
    assert {(v["comparison_id"], v["order"]) for v in verdicts} == {
        (c["comparison_id"], order) for c in comparisons for order in ("ab", "ba")
    }
    assert counts == {
        "prompts": 24,
        "completions_policy": 24,
        "completions_baseline": 24,
        "completions_cut_in_thought": 0,
        "rejects": 0,
        "comparisons": 24,
        "verdicts": 48,
        "unscored": 0,
        "benchmarks": 0,
        "benchmarks_failed": 0,
    }
    assert sorted(p.name for p in context.output.iterdir()) == [
        "benchmarks.json",
        "comparisons.parquet",
        "completions_baseline.parquet",
        "completions_policy.parquet",
        "declared.json",
        "rejects.parquet",
        "resume",
        "verdicts.parquet",
        "win_rates.json",
    ]
    assert [role for role, _ in world.opened] == ["baseline", "policy"]
    assert all(sampler.closed for _, sampler in world.opened)


def test_saved_verdicts_give_the_same_report_bit_for_bit(world: World) -> None:
    context = world.context()
    STAGE.run(TRUTH, context)
    reported = rates(context.output)["truth"]
    again = win_rate_report(read_judged(context.output / "verdicts.parquet")).to_json()
    # Verdicts alone do not say what had been declared; the stage does.
    assert (again.pop("declared_headline"), reported["declared_headline"]) == (None, "win_rate")
    assert json.dumps(again) == json.dumps({name: reported[name] for name in again})


def test_a_policy_of_one_answer_is_warned_of_once(world: World) -> None:
    """Both judges' reports name it; the warning comes once."""
    folder = world.root / "runs" / "judge"
    folder.mkdir()
    save_judge(folder, LengthJudge(), Runtime())
    context = world.context()
    STAGE.run(TRUTH, context)
    found = rates(context.output)["truth"]["detectors"]
    assert ("constant_outputs", "policy") in {(f["name"], f["numbers"].get("side")) for f in found}
    assert isinstance(context.progress, SilentProgress)
    assert sum("constant_outputs" in w for w in context.progress.warnings) == 1


def test_the_declared_measure_decides(world: World) -> None:
    context = world.context()
    STAGE.run(TRUTH.model_copy(update={"headline": "length_controlled"}), context)
    truth = rates(context.output)["truth"]
    controlled = truth["length_controlled"]
    # All wins or ties: the plain regression has no optimum, the penalised one has.
    assert controlled["penalised"]
    assert 0.5 < controlled["win_rate"] < 1
    assert truth["headline"]["measure"] == "length_controlled"
    assert truth["headline"]["value"] == controlled["win_rate"] != truth["win_rate"]
    assert truth["verdict"] == truth["headline"]["verdict"]
    assert truth["length_matched"]["n"] == 24  # foods are short words


def test_exchanging_the_models_mirrors_the_win_rate(world: World) -> None:
    def by_name(request: SampleRequest) -> str:
        return food_world.FOODS[PEOPLE.index(food_world.person_in(request.prompt) or "") % 3]

    world.says = {"policy": by_name, "baseline": always("sushi")}
    STAGE.run(TRUTH, world.context("one"))
    exchanged = TRUTH.model_copy(
        update={
            "policy": ModelSource(path=str(world.root / "runs" / "sft" / "model")),
            "baseline": ModelSource(path=str(world.root / "runs" / "train" / "model")),
        }
    )
    STAGE.run(exchanged, world.context("other"))
    one, other = rates(world.root / "one")["truth"], rates(world.root / "other")["truth"]
    assert 0.5 < one["win_rate"] < 1
    assert one["win_rate"] + other["win_rate"] == pytest.approx(1)
    assert (one["n_wins"], one["n_ties"]) == (other["n_losses"], other["n_ties"])


def test_judge_and_truth_are_reported_side_by_side(world: World) -> None:
    world.says = {"policy": always("pizza"), "baseline": always("pizza pizza pizza")}
    folder = world.root / "runs" / "judge"
    folder.mkdir()
    save_judge(folder, LengthJudge(), Runtime())
    context = world.context()
    counts = STAGE.run(TRUTH, context)
    found = rates(context.output)
    assert (found["judge"]["win_rate"], found["truth"]["win_rate"]) == (0.0, 1.0)
    assert (found["judge"]["verdict"], found["truth"]["verdict"]) == ("worse", "better")
    assert counts["verdicts"] == 96


def test_further_models_are_compared_in_pairs(world: World) -> None:
    base = world.root / "base_train"
    base.mkdir()
    (base / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="is a name that every evaluation has"):
        EvaluateConfig(compare_with={"policy": ModelSource(path="x")})
    config = TRUTH.model_copy(update={"compare_with": {"again": ModelSource(path=str(base))}})
    context = world.context()
    STAGE.run(config, context)
    truth = rates(context.output)["truth"]
    found = {(d["first"], d["second"]): d for d in truth["differences"]}
    assert set(found) == {("policy", "again"), ("policy", "baseline"), ("again", "baseline")}
    # "again" says what the policy says: not different, and the baseline is worse than both.
    assert found["policy", "again"]["difference"]["value"] == 0
    assert found["policy", "again"]["verdict"] == "cannot tell"
    against = found["policy", "baseline"]
    assert against["difference"]["value"] == pytest.approx(truth["win_rate"] - 0.5)
    assert against["p_holm"] == pytest.approx(min(1, 3 * against["p_value"]))
    assert len(read_rows(context.output / "verdicts_again.parquet", VERDICTS)) == 48
    assert (context.output / "completions_again.parquet").exists()
    # The run's own verdicts are of the policy alone.
    assert read_judged(context.output / "verdicts.parquet", judge="rule:food").policy_model == ""
    assert win_rate_report(read_judged(context.output / "verdicts.parquet")).n == 24


def test_true_verdicts_stand_for_people_beside_a_judge_that_likes_length(world: World) -> None:
    """The judge says that the long one always wins; ten true labels find that it mostly loses."""
    world.says = {"policy": always("pizza pizza pizza"), "baseline": any_food}
    folder = world.root / "runs" / "judge"
    folder.mkdir()
    save_judge(folder, LengthJudge(), Runtime())
    context = world.context()
    STAGE.run(TRUTH.model_copy(update={"truth_labels": 10}), context)
    found = rates(context.output)
    human, truth = found["judge"]["human"], found["truth"]["win_rate"]
    assert found["truth"]["human"] is None
    assert (human["judge"]["rate"], truth, human["truth"]["rate"]) == (1.0, 0.0, 0.0)
    assert (human["people"]["n"], human["n_labels"], human["truth"]["n"]) == (10, 10, 24)
    assert human["anchored"]["ci_low"] <= truth <= human["anchored"]["ci_high"] < 0.5
    assert human["judge"]["ci_low"] > 0.5
    said = "0.0%: the anchored interval holds it, the judge's own does not hold it."
    assert said in human["statement"]
    with pytest.raises(ValueError, match="truth_labels"):
        EvaluateConfig(truth_labels=10)


def test_the_best_of_several_samples_is_a_yardstick(world: World) -> None:
    """Of four random foods one is the favourite in a third of the cases, and the judge finds it."""
    config = EvaluateConfig.model_validate(
        {"truth": {"kind": "rule"}, "max_tokens": 12, "compare_with": "best_of_4"}
    )
    context = world.context()
    counts = STAGE.run(config, context)
    many = read_rows(context.output / "completions_best_of_4.parquet", COMPLETIONS)
    assert len(many) == 4 * 24
    said: dict[str, set[str]] = {}
    for row in many:
        said.setdefault(row["prompt_id"], set()).add(row["completion"][0]["content"])
    compared = read_rows(context.output / "comparisons_best_of_4.parquet", COMPARISONS)
    chosen = {row["prompt_id"]: row["completion_a"][0]["content"] for row in compared}
    assert {p: text == "pizza" for p, text in chosen.items()} == {
        p: "pizza" in texts for p, texts in said.items()
    }
    own = read_rows(context.output / "completions_baseline.parquet", COMPLETIONS)
    assert len(own) == counts["completions_baseline"] == 24
    pairs = {(d["first"], d["second"]): d for d in rates(context.output)["truth"]["differences"]}
    assert {("policy", "best_of_4"), ("best_of_4", "baseline")} <= pairs.keys()
    assert (
        pairs["policy", "best_of_4"]["difference"]["value"]
        < (pairs["policy", "baseline"]["difference"]["value"])
    )


def test_what_best_of_cannot_be(world: World) -> None:
    with pytest.raises(ValueError, match="best_of_4"):
        EvaluateConfig.model_validate({"compare_with": "the best"})
    with pytest.raises(ValueError, match="temperature 0"):
        EvaluateConfig(best_of=4, temperature=0)
    outputs = world.root / "outputs.jsonl"
    outputs.write_text('{"prompt": "q", "output": "a"}\n')
    with pytest.raises(ConfigError, match=r"evaluate\.best_of"):
        STAGE.run(
            EvaluateConfig(best_of=2, baseline=OutputsFile(outputs=str(outputs))), world.context()
        )


def test_margins_are_declared_by_task() -> None:
    config = EvaluateConfig(tasks=("a", "b"), margins={"all": 0.02, "b": 0.1})
    assert (config.margin("a"), config.margin("b")) == (0.02, 0.1)
    assert EvaluateConfig(tasks=("a",)).margin("a") is None
    with pytest.raises(ValueError, match=r"margins\.c"):
        EvaluateConfig(tasks=("a",), margins={"c": 0.02})
