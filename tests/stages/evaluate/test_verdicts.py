"""Who is asked in an evaluation, how often, and what an interruption costs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from evals import food_world
from evals.files.verdicts import read_judged
from evals.judges import RuleJudge, save_judge
from evals.models.samplers import (
    Sample,
    SampledCompletion,
    SampleRequest,
)
from evals.win_rate.report import win_rate_report
from evals.win_rate.win_rate import IDENTICAL
from schemas.labels import Unscored, Verdict
from schemas.parquet import read_rows
from schemas.stage import Runtime
from schemas.tables import COMPARISONS, COMPLETIONS, VERDICTS
from stages.evaluate import STAGE, run
from stages.evaluate.config import EvaluateConfig
from tests.fixtures.samplers import Answer
from tests.fixtures.scripted_evaluation import PEOPLE, TRUTH, World, always, rates, write_prompts


def test_one_judge_in_both_parts_is_asked_once(world: World) -> None:
    folder = world.root / "runs" / "judge"
    folder.mkdir()
    save_judge(folder, RuleJudge(rule="food"), Runtime())
    context = world.context()
    assert STAGE.run(TRUTH, context)["verdicts"] == 48
    found = rates(context.output)
    assert found["judge"] == found["truth"]


@dataclass
class CountingJudge:
    """Finds the favourite; remembers what it was asked."""

    name: str = "counting"
    fingerprint: str = "c" * 32
    asked: list[tuple[str, str]] = field(default_factory=list)
    fail_after: int | None = None

    def judge(self, comparisons: Sequence[Any]) -> list[Verdict]:
        if self.fail_after is not None and len(self.asked) >= self.fail_after:
            raise KeyboardInterrupt
        self.asked += [
            (c.completion_a[0]["content"], c.completion_b[0]["content"]) for c in comparisons
        ]
        from evals.judges.kinds.rule import certain

        return [
            certain(
                food_world.compare(
                    c.prompt, *(m[0]["content"] for m in (c.completion_a, c.completion_b))
                )
            )
            for c in comparisons
        ]


def use_judge(monkeypatch: pytest.MonkeyPatch, judge: CountingJudge) -> None:
    monkeypatch.setattr(run, "_ways", lambda config, context: {"truth": lambda: judge})


def test_identical_completions_are_ties_that_nobody_is_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = CountingJudge()
    use_judge(monkeypatch, judge)
    world.says = {"policy": always("pizza"), "baseline": always("pizza")}
    context = world.context()
    STAGE.run(TRUTH, context)
    assert judge.asked == []
    verdicts = read_rows(context.output / "verdicts.parquet", VERDICTS)
    assert {(v["verdict"], v["raw"], v["p_tie"]) for v in verdicts} == {("Tie", IDENTICAL, 1.0)}
    truth = rates(context.output)["truth"]
    assert (truth["n"], truth["win_rate"], truth["n_identical"]) == (24, 0.5, 24)
    assert truth["position"]["consistency"] is None
    assert truth["verdict"] == "cannot tell"


def test_samples_that_say_the_same_share_a_verdict(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = CountingJudge()
    use_judge(monkeypatch, judge)
    world.says["baseline"] = lambda r: "sushi" if int(r.key.rpartition("/")[2]) < 3 else "pizza"
    context = world.context()
    counts = STAGE.run(TRUTH.model_copy(update={"n": 4}), context)
    assert counts["comparisons"] == 96
    assert counts["verdicts"] == 192
    assert len(judge.asked) == 48  # pizza against sushi: once per prompt and order
    truth = rates(context.output)["truth"]
    assert (truth["n"], truth["n_identical"]) == (24, 24)
    assert truth["win_rate"] == pytest.approx((3 + 0.5) / 4)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_killed_stage_ends_with_the_same_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.shards.judging.SHARD_COMPARISONS", 8)
    config = TRUTH.model_copy(update={"n": 2, "shard_size": 5})
    use_judge(monkeypatch, CountingJudge())
    STAGE.run(config, world.context("undisturbed"))

    def dies_after(count: int, answer: Answer) -> Answer:
        left = [count]

        def say(request: SampleRequest) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return answer(request)

        return say

    well = dict(world.says)
    for role, count in (("baseline", 25), ("policy", 15)):
        world.says = {**well, role: dies_after(count, well[role])}
        with pytest.raises(KeyboardInterrupt):
            STAGE.run(config, world.context("killed"))
    world.says = well
    use_judge(monkeypatch, CountingJudge(fail_after=10))
    with pytest.raises(KeyboardInterrupt):
        STAGE.run(config, world.context("killed"))
    world.opened.clear()
    resumed = CountingJudge()
    use_judge(monkeypatch, resumed)
    STAGE.run(config, world.context("killed"))
    assert world.opened == []  # everything had been sampled
    assert 0 < len(resumed.asked) < 2 * 24 * 2
    assert files_of(world.root / "killed") == files_of(world.root / "undisturbed")


@dataclass
class FlakyJudge(CountingJudge):
    """Its server does not answer when it is asked about one of the policy's completions."""

    down: bool = True

    def judge(self, comparisons: Sequence[Any]) -> list[Verdict]:
        found = super().judge(comparisons)
        lost = [food_world.person_in(c.prompt) == PEOPLE[0] and self.down for c in comparisons]
        gone = Unscored("timeout", "no reply within 60 s")
        return [gone if is_lost else one for is_lost, one in zip(lost, found, strict=True)]


def test_verdicts_that_a_server_failed_to_give_are_missing_and_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.shards.judging.SHARD_COMPARISONS", 8)
    world.says["baseline"] = always("sushi")
    judge, missing = FlakyJudge(), list[str]()
    use_judge(monkeypatch, judge)
    context = replace(world.context(), is_missing=missing.append)
    assert STAGE.run(TRUTH, context)["unscored"] == 2
    assert missing == ["counting: 2 verdicts: timeout 2"]
    judge.asked.clear()
    assert STAGE.run(TRUTH, context)["unscored"] == 2
    assert 0 < len(judge.asked) <= 2 * 24, "no more than its shard"
    judge.down = False
    judge.asked.clear()
    missing.clear()
    assert STAGE.run(TRUTH, context)["unscored"] == 0
    assert missing == []
    assert rates(context.output)["truth"]["n"] == 24
    judge.asked.clear()
    STAGE.run(TRUTH, context)
    assert judge.asked == []


def test_judging_stops_when_settled(world: World) -> None:
    """Of 200 people the policy pleases all: some dozens of prompts say so, whoever looks when."""
    people = [f"{name} {number}" for number in range(9) for name in PEOPLE]
    write_prompts(world.root / "runs" / "ingest" / "prompts.parquet", people)
    world.says["baseline"] = always("a stone")
    config = TRUTH.model_copy(update={"stop_when_settled": True})
    context = world.context()
    counts = STAGE.run(config, context)
    assert counts["prompts"] == 216
    assert counts["comparisons"] == 32
    assert counts["verdicts"] == 64
    truth = rates(context.output)["truth"]
    assert truth["headline"]["always_valid"]
    assert truth["n"] == 32
    assert (truth["headline"]["ci_low"], truth["verdict"]) == (truth["ci_low"], "better")
    assert 0.5 < truth["ci_low"] < 0.85
    again = win_rate_report(read_judged(context.output / "verdicts.parquet"))
    assert again.headline is not None
    assert again.headline.to_json() == truth["headline"]

    other = world.context("again")
    STAGE.run(TRUTH.model_copy(update={"stop_when_settled": True}), other)
    assert (other.output / "verdicts.parquet").read_bytes() == (
        context.output / "verdicts.parquet"
    ).read_bytes()


def test_what_cannot_be_settled_is_judged_whole(world: World) -> None:
    world.says["policy"] = world.says["baseline"] = always("pizza")
    context = world.context()
    counts = STAGE.run(TRUTH.model_copy(update={"stop_when_settled": True}), context)
    assert counts["comparisons"] == 24
    assert rates(context.output)["truth"]["verdict"] == "cannot tell"


@pytest.mark.parametrize(
    "further", [{"headline": "length_controlled"}, {"compare_with": {"base": {"path": "m"}}}]
)
def test_what_has_no_such_interval_is_refused(further: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="stop_when_settled"):
        EvaluateConfig.model_validate({"stop_when_settled": True, **further})


def test_a_completion_cut_in_its_thoughts_is_counted_and_nobody_is_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def musing(request: SampleRequest) -> Sample:
        cut = "aeiou".find(request.prompt[0]["content"][-2]) >= 0
        return SampledCompletion(
            "" if cut else "pizza", [1], -1.0, "length" if cut else "stop", reasoning="hm"
        )

    world.says["policy"] = musing
    judge = CountingJudge()
    use_judge(monkeypatch, judge)
    context = world.context()
    counts = STAGE.run(TRUTH, context)
    completions = read_rows(context.output / "completions_policy.parquet", COMPLETIONS)
    cut = [row["completion_id"] for row in completions if row["finish_reason"] == "length"]
    verdicts = read_rows(context.output / "verdicts.parquet", VERDICTS)
    compared = read_rows(context.output / "comparisons.parquet", COMPARISONS)
    spared = {row["comparison_id"] for row in compared if row["completion_a_id"] in cut}
    assert counts["completions_cut_in_thought"] == len(cut) == len(spared)
    for row in verdicts:
        is_cut = row["comparison_id"] in spared
        assert (row["unscored_reason"] == "cut_in_thought") is is_cut
        assert (row["verdict"] is None) is is_cut
