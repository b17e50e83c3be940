"""A sweep at work: what is shared is made once, each combination trained, one of them chosen.

The combinations live in RUN/sweep/NAME. What no swept setting changes is made in the run itself and
read from there. They are compared on dev prompts alone; the chosen one is then the run's own, and
goes on to the test prompts and the report as any training does. Where only seeds differ nothing is
chosen: the first is the run's own, and all are measured on the test prompts, for the noise.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.recipe import Variant
from pipeline.runs.publish import remove_ours
from pipeline.runs.rounds import on_dev
from pipeline.runs.run import Outcome, Run
from pipeline.stage_registry import BY_NAME, STAGES
from pipeline.sweeps.choice import choose
from pipeline.sweeps.page import write_page
from pipeline.sweeps.variant_runs import (
    CHOICE,
    FOLDER,
    affected_stages,
    is_choice,
    variant_run,
)
from schemas.files import remove, write_json
from schemas.stage import Progress, Stage

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """A combination, its run, and where it is measured: on dev to be chosen, on test for noise."""

    variant: Variant
    run: Run
    measured: Run


def run_sweep(first: Run, until: str | None, progress: Progress, say: Say) -> Run:
    """Train every combination, choose, and bring the run itself up to date with the choice."""
    recipe = first.recipe
    affected = affected_stages(recipe)
    before = [stage for stage in STAGES if stage.name not in affected]
    for stage in before:
        _execute(first, stage, progress, say)
        if stage.name == until:
            return first
    trained = [
        _train(first, variant, affected, until, progress, say) for variant in recipe.variants
    ]
    if until is not None and until not in ("evaluate", "report"):
        return first
    choice = choose([(one.variant.point, one.run, one.measured) for one in trained])
    say(f"sweep: {choice.why}")
    chosen = next(one for one in trained if one.variant.point.name == choice.chosen)
    write_json(first.directory / FOLDER / CHOICE, choice.to_json())
    final = first.under(chosen.variant.recipe)
    for stage in STAGES:
        if stage.name in affected:
            _take_over(chosen.run, final, stage)
        _execute(final, stage, progress, say)
        if stage.name == until:
            break
    write_page(first.directory, recipe.name, choice)
    return final


def _train(
    first: Run,
    variant: Variant,
    affected: set[str],
    until: str | None,
    progress: Progress,
    say: Say,
) -> Trained:
    say(f"{variant.point.name}:")
    run = variant_run(first, variant, affected)
    run.claim()
    for stage in STAGES:
        if stage.name in affected and stage.name not in ("evaluate", "report"):
            _execute(run, stage, progress, say)
            if stage.name == until:
                return Trained(variant, run, run)
    evaluate: Any = run.recipe.stages.get("evaluate")
    if evaluate is None:
        return Trained(variant, run, run)
    choosing = is_choice(first.recipe) and not evaluate.brings_prompts
    measured = on_dev(run) if choosing else run
    measured.claim()
    _execute(measured, BY_NAME["evaluate"], progress, say)
    return Trained(variant, run, measured)


def _execute(run: Run, stage: Stage[Any], progress: Progress, say: Say) -> None:
    run.refuse_damaged(stage)
    outcome, _ = run.execute(stage, progress)
    if outcome is not Outcome.SKIPPED:
        say(f"{stage.name}: {outcome}")


def _take_over(chosen: Run, final: Run, stage: Stage[Any]) -> None:
    """Give the run a finished stage of the chosen combination, where it has not that one."""
    source, place = chosen.directory / stage.name, final.directory / stage.name
    if not (source / "manifest.json").is_file() or _same_manifest(source, place):
        return
    making = place.with_name(f".{place.name}.prefline-writing")
    remove(making)
    shutil.copytree(source, making, copy_function=_link)
    remove_ours(place)
    os.rename(making, place)


def _same_manifest(one: Path, other: Path) -> bool:
    texts = [folder / "manifest.json" for folder in (one, other)]
    return texts[1].is_file() and texts[0].read_bytes() == texts[1].read_bytes()


def _link(source: str, target: str) -> str:
    """One file under two names; a copy where the disk has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
