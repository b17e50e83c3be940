"""Prompts, models, checkpoints and tasks of an evaluation, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals import food_world
from evals.judges import LengthJudge, RuleJudge, save_judge
from evals.models.checkpoints import ModelSource
from evals.models.samplers import (
    SampleRequest,
    TransformersSampler,
    Unsampled,
)
from schemas.errors import ConfigError, DataError, MissingInputError
from schemas.manifest import Manifest, Provenance
from schemas.parquet import read_rows
from schemas.results.base import write_result
from schemas.results.judge_card import JudgeCard
from schemas.results.training import CheckpointRecord, KeptCheckpoint
from schemas.stage import Runtime, SilentProgress, StageContext
from schemas.tables import REJECTS
from stages.evaluate import STAGE
from stages.evaluate.config import EvaluateConfig
from stages.evaluate.contestants import contestants
from tests.fixtures.scripted_evaluation import PEOPLE, TRUTH, World, write_prompts
from tests.fixtures.tiny_models import tiny_llama


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
