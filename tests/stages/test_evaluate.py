"""The evaluate stage: from prompts to win rates and benchmarks, interrupted and not."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from evals import food_world
from evals.files.verdicts import read_judged
from evals.judges import LengthJudge, RuleJudge, save_judge
from evals.models.checkpoints import ModelSource
from evals.models.contenders import OutputsFile
from evals.models.samplers import (
    Sample,
    SampledCompletion,
    SampleRequest,
    TransformersSampler,
    Unsampled,
)
from evals.win_rate.report import win_rate_report
from evals.win_rate.win_rate import IDENTICAL
from schemas.errors import ConfigError, DataError, MissingInputError
from schemas.ids import prompt_id, seed_from
from schemas.labels import Unscored, Verdict
from schemas.manifest import Manifest, Provenance
from schemas.parquet import read_rows, write_table
from schemas.results.base import write_result
from schemas.results.judge_card import JudgeCard
from schemas.results.training import CheckpointRecord, KeptCheckpoint
from schemas.stage import Runtime, SilentProgress, StageContext
from schemas.tables import COMPARISONS, COMPLETIONS, PROMPTS, REJECTS, VERDICTS
from stages.evaluate import STAGE, run
from stages.evaluate.config import EvaluateConfig
from stages.evaluate.contestants import contestants
from tests.fixtures.samplers import Answer, ScriptedSampler
from tests.fixtures.tiny_models import tiny_llama

PEOPLE = food_world.NAMES[:24]


@dataclass
class World:
    """A run directory whose models are scripts: what each says, and who has asked it."""

    root: Path
    says: dict[str, Answer]
    opened: list[tuple[str, ScriptedSampler]] = field(default_factory=list)

    def context(self, output: str = "evaluate") -> StageContext:
        inputs = {p.name: p for p in (self.root / "runs").iterdir() if p.name != "out"}
        folder = self.root / output
        folder.mkdir(exist_ok=True)
        return StageContext(inputs, folder, Runtime(threads=1), SilentProgress())

    def open_sampler(self, config: Any, source: ModelSource, runtime: Runtime) -> ScriptedSampler:
        assert all(sampler.closed for _, sampler in self.opened), "one engine at a time"
        role = "policy" if "train" in source.path else "baseline"
        sampler = ScriptedSampler(self.says[role], fingerprint=role)
        self.opened.append((role, sampler))
        return sampler


def always(text: str) -> Answer:
    return lambda request: text


def any_food(request: SampleRequest) -> str:
    return food_world.FOODS[seed_from(request.seed, "food") % 10]


def write_prompts(path: Path, people: Sequence[str], split: str = "test") -> None:
    rows = []
    for number, name in enumerate(people):
        prompt = food_world.prompt_for(name)
        rows.append(
            {
                "prompt_id": prompt_id(prompt),
                "prompt": prompt,
                "split": split,
                "category": "even" if number % 2 == 0 else None,
                "source": "food",
                "file": "food:0",
                "row": number,
            }
        )
    write_table(path, PROMPTS, rows)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for stage in ("sft", "train"):
        folder = tmp_path / "runs" / stage / "model"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"made_by": stage}))
    write_prompts(tmp_path / "runs" / "ingest" / "prompts.parquet", PEOPLE)
    made = World(tmp_path, {"policy": always("pizza"), "baseline": any_food})
    monkeypatch.setattr(run, "open_sampler", made.open_sampler)
    return made


def rates(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "win_rates.json").read_bytes())
    return found


TRUTH = EvaluateConfig(truth=RuleJudge(rule="food"), max_tokens=12)


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


def test_prompts_that_cannot_be_answered_are_rejected_and_counted(world: World) -> None:
    name = PEOPLE[3]

    def answer(request: SampleRequest) -> Any:
        too_long = food_world.person_in(request.prompt) == name
        return Unsampled("prompt_too_long", "300 tokens") if too_long else "pizza"

    world.says["baseline"] = answer
    context = world.context()
    counts = STAGE.run(TRUTH, context)
    assert (counts["comparisons"], counts["rejects"]) == (23, 1)
    [reject] = read_rows(context.output / "rejects.parquet", REJECTS)
    assert (reject["table"], reject["reason"]) == ("completions_baseline", "prompt_too_long")
    assert (reject["file"], reject["row"]) == ("food:0", 3)

    world.says["baseline"] = lambda request: Unsampled("prompt_too_long")
    with pytest.raises(DataError, match="no prompt was answered by both"):
        STAGE.run(TRUTH, world.context("none"))


def test_no_test_prompts_says_what_to_do(world: World) -> None:
    write_prompts(world.root / "runs" / "ingest" / "prompts.parquet", PEOPLE, split="train")
    with pytest.raises(DataError, match="test_fraction"):
        STAGE.run(TRUTH, world.context())


def test_max_prompts_takes_the_same_ones_every_time(world: World) -> None:
    config = TRUTH.model_copy(update={"max_prompts": 5})
    STAGE.run(config, world.context())
    asked = [sorted(r.key for r in sampler.requests) for _, sampler in world.opened]
    assert len(asked[0]) == 5
    assert asked[0] == asked[1]
    seeds = [{r.seed for r in sampler.requests} for _, sampler in world.opened]
    assert not seeds[0] & seeds[1]  # policy and baseline draw independently


def provenance() -> Provenance:
    return Provenance(
        started_at="", finished_at="", wall_seconds=0, cpu_seconds=0, peak_rss_bytes=0,
        commit=None, dirty=None, command=[], python="", packages={}, hardware={},
    )  # fmt: skip


def test_the_baseline_is_what_training_started_from(world: World) -> None:
    start = world.root / "start"
    start.mkdir()
    (start / "config.json").write_text("{}")
    payload = {"config": {"model": {"path": str(start)}}}
    manifest = Manifest(stage="train", fingerprint="x", payload=payload, provenance=provenance())
    (world.root / "runs" / "train" / "manifest.json").write_text(manifest.model_dump_json())
    from stages.evaluate.contestants import contestants

    found = {c.name: c for c in contestants(TRUTH, world.context())}
    assert found["baseline"].source == ModelSource(path=str(start))
    trained = world.root / "runs" / "train" / "model"
    assert found["policy"].source == ModelSource(path=str(trained))
    assert found["baseline"].fingerprint != found["policy"].fingerprint


def test_no_model_to_beat_is_a_config_error(world: World) -> None:
    context = world.context()
    without = StageContext({n: p for n, p in context.inputs.items() if n != "sft"}, context.output)
    with pytest.raises(ConfigError, match=r"evaluate.baseline"):
        STAGE.run(TRUTH, without)


TASK_THAT_FAILS = """
from inspect_ai import task

@task
def needs_hub():
    raise ConnectionError("Couldn't reach 'some/data' on the Hub")
"""


def test_tasks_run_on_real_models_and_a_failing_one_is_a_warning(tmp_path: Path) -> None:
    for number, stage in enumerate(("sft", "train")):
        folder = tmp_path / "runs" / stage / "model"
        folder.mkdir(parents=True)
        tiny_llama(folder, ["what does ravin like?", *food_world.FOODS], seed=number)
    write_prompts(tmp_path / "runs" / "ingest" / "prompts.parquet", PEOPLE[:6])
    (tmp_path / "failing.py").write_text(TASK_THAT_FAILS)
    config = EvaluateConfig(
        sampler=TransformersSampler(),
        truth=RuleJudge(rule="food"),
        max_tokens=4,
        tasks=("food_preference", f"{tmp_path}/failing.py@needs_hub"),
        epochs=2,
    )
    inputs = {p.name: p for p in (tmp_path / "runs").iterdir()}
    output = tmp_path / "evaluate"
    output.mkdir()
    progress = SilentProgress()
    context = StageContext(inputs, output, Runtime(threads=1, device="cpu"), progress)
    counts = STAGE.run(config, context)

    found = json.loads((output / "benchmarks.json").read_bytes())
    entries = found["tasks"]
    measured = [e for e in entries if e["error"] is None]
    assert {(e["task"], e["model"], e["scorer"], e["metric"]) for e in measured} == {
        ("food_preference", model, scorer, metric)
        for model in ("policy", "baseline")
        for scorer in ("preferred", "well_formed")
        for metric in ("accuracy", "stderr")
    }
    for entry in measured:
        beside = json.loads((output / entry["log"]).with_suffix(".json").read_bytes())
        assert entry in beside["measured"]
    measured = [e for e in measured if e["metric"] == "accuracy"]
    assert len({frozenset(entry) for entry in entries}) == 1  # failed ones have the same keys
    for entry in measured:
        assert entry["n"] == 6
        assert 0 <= entry["ci_low"] <= entry["value"] <= entry["ci_high"] <= 1
        assert 0 <= entry["n_truncated"] <= 12
        assert (output / entry["log"]).is_file()
    fingerprints = {e["model"]: e["fingerprint"] for e in measured}
    assert fingerprints["policy"] != fingerprints["baseline"]
    failed = [e for e in entries if e["error"] is not None]
    assert [(e["model"], e["n"], e["value"]) for e in failed] == [
        ("policy", 0, None),
        ("baseline", 0, None),
    ]
    assert counts["benchmarks_failed"] == 2
    about_tasks = [w for w in progress.warnings if "task " in w]
    assert len(about_tasks) == 2
    assert all("needs_hub" in w and "Couldn't reach 'some/data'" in w for w in about_tasks)
    assert {(p["scorer"], p["n"]) for p in found["paired"]} == {
        ("preferred", 6),
        ("well_formed", 6),
    }
    assert sorted(p.name for p in output.iterdir() if p.is_dir()) == ["logs", "resume"]


def write_checkpoints(world: World, places: dict[int, str]) -> None:
    train = world.root / "runs" / "train"
    for step, place in places.items():
        (train / place).mkdir(parents=True, exist_ok=True)
        (train / place / "config.json").write_text(json.dumps({"step": step}))
    kept = [KeptCheckpoint(step=step, path=path) for step, path in places.items()]
    record = CheckpointRecord(published_step=20, final_step=40, why="", checkpoints=kept)
    write_result(train / "checkpoints.json", record)


@pytest.mark.parametrize("step", [20, 40])
def test_a_kept_checkpoint_is_evaluated_by_its_step(world: World, step: int) -> None:
    write_checkpoints(world, {20: "model", 40: "checkpoints/step-40"})
    config = EvaluateConfig(max_tokens=12, checkpoint_step=step)
    _, policy = contestants(config, world.context())
    assert isinstance(policy.source, ModelSource)
    assert json.loads((Path(policy.source.path) / "config.json").read_text()) == {"step": step}


def test_a_step_that_was_not_kept_names_those_that_were(world: World) -> None:
    write_checkpoints(world, {20: "model", 40: "checkpoints/step-40"})
    with pytest.raises(
        MissingInputError, match="no checkpoint of step 30 was kept, only of 20, 40"
    ):
        contestants(EvaluateConfig(checkpoint_step=30), world.context())
    both = EvaluateConfig(checkpoint_step=20, policy=ModelSource(path=str(world.root)))
    with pytest.raises(ConfigError, match=r"leave it out, or evaluate.policy"):
        contestants(both, world.context())


@pytest.mark.parametrize(
    ("judge", "named"),
    [
        ({"kind": "length"}, ""),
        ({"kind": "llm", "model": {"path": "models/Qwen3-8B"}}, "Qwen3-8B"),
        ({"kind": "llm", "model": None, "server": {"model": "gpt-4o"}}, "gpt-4o"),
        (
            {
                "kind": "panel",
                "members": [
                    {"kind": "llm", "model": {"path": "a/gemma-3"}},
                    {"kind": "length"},
                    {"kind": "llm", "model": None, "server": {"model": "claude-x"}},
                ],
            },
            "gemma-3, claude-x",
        ),
    ],
)
def test_the_models_behind_a_judge_are_named(
    world: World, judge: dict[str, Any], named: str
) -> None:
    from stages.evaluate.contestants import judge_model_name

    folder = world.root / "runs" / "judge"
    folder.mkdir()
    payload = {"config": {"judge": judge}}
    manifest = Manifest(stage="judge", fingerprint="x", payload=payload, provenance=provenance())
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    assert judge_model_name(world.context()) == named


CARD = JudgeCard(judge="j", kind="length", fingerprint="f", n=9, n_scored=9, n_prompts=9)


def test_a_judge_below_its_floors_is_refused_before_any_work(world: World) -> None:
    folder = world.root / "runs" / "judge"
    folder.mkdir()
    save_judge(folder, LengthJudge(), Runtime())
    missed = ["agreement 0.512 [0.4, 0.6] on 80 held-out comparisons is below min_agreement 0.7"]
    write_result(folder / "card.json", CARD.model_copy(update={"below_floors": missed}))
    with pytest.raises(ConfigError, match=r"evaluate: .*agreement 0\.512"):
        STAGE.run(TRUTH, world.context())
    assert world.opened == []


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
