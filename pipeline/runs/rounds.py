"""Rounds of on-policy training: each samples the policy that the one before it has made.

Round 1 is the run directory itself, round k its folder `round-k`. A later round runs only what
depends on the policy: it reads the data and the judge where round 1 left them.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pipeline.recipe import Recipe
from pipeline.runs.run import Link, Outcome, Run
from pipeline.stage_registry import BY_NAME, STAGES
from schemas.errors import ConfigError, DataError
from schemas.manifest import Manifest
from schemas.results.base import read_result
from schemas.results.win_rates import WinRates
from schemas.stage import Config, Progress, Stage

# What depends on the policy; the rest of the chain is the same in every round.
REPEATED = ("sample", "label", "train", "evaluate", "report")


def rounds_of(first: Run) -> list[Run]:
    """The runs of all rounds that the recipe asks for, in order; often only the run itself."""
    runs = [first]
    while len(runs) < first.recipe.rounds.n:
        runs.append(_after(runs))
    return runs


def pick_round(first: Run, number: int) -> Run:
    """The run of one round, which need not have begun. Raises ConfigError below round 1."""
    if number < 1:
        raise ConfigError(f"--round {number}: rounds are counted from 1")
    runs = [first]
    while len(runs) < number:
        runs.append(_after(runs))
    return runs[-1]


def stages_of(number: int) -> tuple[Stage[Any], ...]:
    """What a round runs: the first everything, a later one what depends on the policy."""
    return STAGES if number == 1 else tuple(s for s in STAGES if s.name in REPEATED)


def run_rounds(
    first: Run, until: str | None, progress: Progress, say: Callable[[str], None]
) -> Run:
    """Bring all rounds up to date, the last one until a stage; returns the last that was run."""
    runs = rounds_of(first)
    for number, run in enumerate(runs, 1):
        if number > 1:
            say(f"round {number} of {len(runs)}")
            run.claim()
        for stage in stages_of(number):
            run.refuse_damaged(stage)
            outcome, manifest = run.execute(stage, progress)
            if outcome is not Outcome.SKIPPED:
                say(f"{stage.name}: {outcome}")
            if stage.name == "ingest" and until != "ingest":
                refuse_no_prompts(run, manifest)
            if stage.name == until and run is runs[-1]:
                return run
        if run.recipe.rounds.stop_when_falls:
            _measureon_dev(run, progress)
        fall = _fall(runs[number - 2], run) if number > 1 else None
        if fall:
            say(f"{fall}: no further round")
            return run
    return runs[-1]


def refuse_no_prompts(run: Run, ingested: Manifest) -> None:
    """Raises DataError where ingest left [evaluate] no prompt, before anything is paid for."""
    evaluate: Any = run.recipe.stages.get("evaluate")
    if evaluate is None or evaluate.brings_prompts:
        return
    if ingested.counts.get(f"prompts/{evaluate.split}", 1) == 0:
        raise DataError(
            f"{run.directory / 'ingest'}: none of {ingested.counts.get('prompts', 0):,} prompts is "
            f"in the {evaluate.split} split, on which [evaluate] measures; set a larger "
            f"ingest.{evaluate.split}_fraction, or take more data"
        )


def _measureon_dev(run: Run, progress: Progress) -> None:
    """Bring the evaluation that decides about a further round up to date."""
    deciding = on_dev(run)
    if deciding is not run:
        deciding.claim()
        deciding.execute(BY_NAME["evaluate"], progress)


def on_dev(run: Run) -> Run:
    """The run whose evaluation is on dev prompts, beside the one that is reported.

    The recipe must have [evaluate].
    """
    evaluate: Any = run.recipe.stages["evaluate"]
    if evaluate.split == "dev":
        return run
    recipe = replace(run.recipe, stages={"evaluate": _copy(evaluate, {"split": "dev"})})
    links = {"evaluate": run.inputs(BY_NAME["evaluate"])}
    return Run(run.directory / "dev", recipe, links)


def _fall(before: Run, after: Run) -> str | None:
    """In words, that a round is worse on dev prompts, where the recipe wants to stop there."""
    by = after.recipe.rounds.stop_when_falls
    was, now = (_held_out(run, by) if by else None for run in (before, after))
    if was is None or now is None or now >= was:
        return None
    return f"the win rate on dev prompts by {by} fell from {was:.3f} to {now:.3f}"


def _held_out(run: Run, judge: str) -> float | None:
    """The declared measure against the fixed baseline in [0, 1]; None where it was not measured."""
    path = on_dev(run).directory / "evaluate" / "win_rates.json"
    if not path.exists():
        return None
    rate = read_result(path, WinRates).get(judge)
    return rate.headline.value if rate and rate.headline else None


def _after(earlier: list[Run]) -> Run:
    first, number = earlier[0], len(earlier) + 1
    recipe = round_recipe(first.recipe, number)
    return Run(
        first.directory / f"round-{number}",
        recipe,
        links=_links(earlier),
        options=("--run-dir", str(first.directory), "--round", str(number)),
    )


def _links(earlier: list[Run]) -> dict[str, dict[str, Link]]:
    """What a round reads elsewhere, by stage.

    Where sample and train read `sft`, the start of their policy, they find what the round before
    has trained; evaluate finds the first start, so that all rounds have one baseline.
    """
    first, previous, rounds = earlier[0], earlier[-1], earlier[0].recipe.rounds
    fixed = {name: Link(first, name) for name in ("ingest", "sft", "judge")}
    start = {"ingest": fixed["ingest"], "sft": Link(previous, "train")}
    reference = {"reference": fixed["sft"]} if rounds.reference == "first" else {}
    pairs = _numbered(earlier, "label") if rounds.mix_earlier_pairs else {}
    return {
        "sample": start,
        "label": {"judge": fixed["judge"]},
        "train": start | reference | pairs,
        "evaluate": fixed,
        "report": fixed | _numbered(earlier, "evaluate"),
    }


def _numbered(earlier: list[Run], stage: str) -> dict[str, Link]:
    return {f"{stage}@{number}": Link(run, stage) for number, run in enumerate(earlier, 1)}


def round_recipe(recipe: Recipe, number: int) -> Recipe:
    """The recipe of a later round: what it starts from is found, no longer named."""
    first: Any = recipe.stages["train"]
    stages = {name: config for name, config in recipe.stages.items() if name in REPEATED}

    def change(name: str, **values: Any) -> None:
        if name in stages:
            stages[name] = _copy(stages[name], values)

    sample: Any = stages["sample"]
    change("sample", model=None, seed=sample.seed + number - 1)
    keeps_first = recipe.rounds.reference == "first"
    change("train", model=None, reference=first.reference or (first.model if keeps_first else None))
    evaluate: Any = stages.get("evaluate")
    if evaluate is not None:
        change("evaluate", baseline=evaluate.baseline or first.model)
    report: Any = stages.get("report")
    if report is not None:
        change("report", title=f"{report.title}, round {number}")
    return replace(recipe, stages=stages)


def _copy(config: Config, values: Mapping[str, Any]) -> Config:
    return config.model_copy(update=dict(values))
