"""How the stages of a run stand to its recipe: fresh, stale, running, missing, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from pipeline.recipe import Recipe
from pipeline.runs.failures import failure_of
from pipeline.runs.fingerprint import differences, is_as_recorded, payload_of
from pipeline.runs.locks import is_held
from pipeline.runs.pins import commits_of, recall_pins
from pipeline.runs.progress_file import how_far
from pipeline.runs.publish import damage_of
from pipeline.stage_registry import STAGES
from schemas.errors import DataError, MissingInputError, StaleInputError
from schemas.manifest import Manifest, read_manifest
from schemas.stage import Stage


class State(StrEnum):
    """How a stage directory stands to the recipe."""

    FRESH = "fresh"
    STALE = "stale"
    MISSING = "missing"
    PARTIAL = "interrupted"
    FAILED = "failed"
    RUNNING = "running"
    DAMAGED = "damaged"
    INCOMPLETE = "incomplete"
    SKIPPED = "not in the recipe"


@dataclass(frozen=True)
class StageStatus:
    """A stage's state and the reason for it, for people."""

    stage: str
    state: State
    why: str
    manifest: Manifest | None


class ReadStage(Protocol):
    """A stage of some run, as another stage reads it."""

    @property
    def run(self) -> "RunToJudge":
        """The run that it is a stage of."""

    @property
    def stage(self) -> str:
        """Its name."""

    @property
    def directory(self) -> Path:
        """Where it publishes."""


class RunToJudge(Protocol):
    """What the state of a run's stages follows from."""

    directory: Path
    recipe: Recipe

    def inputs(self, stage: Stage[Any]) -> Mapping[str, ReadStage]:
        """What a stage reads, by name."""

    def upstream(self, stage: Stage[Any]) -> Mapping[str, Manifest]:
        """The manifests of that, as far as they are there."""

    def partial(self, stage: Stage[Any]) -> Path:
        """Where a stage is made before it is published."""

    def progress_file(self, stage: Stage[Any]) -> Path:
        """What a stage at work writes about how far it is."""

    def command(self, stage: str) -> str:
        """What a person types to bring a stage up to date."""


RESTS = (State.FRESH, State.SKIPPED)
"""There is nothing to do."""
READABLE = (*RESTS, State.INCOMPLETE)
"""What other stages may read."""

ByStage = Mapping[str, StageStatus]
Known = dict[RunToJudge, ByStage]
"""Runs whose stages have been looked at: rounds share them, and each is looked at once."""


def statuses_of(run: RunToJudge, known: Known | None = None) -> ByStage:
    """How every stage stands to the recipe and to its upstream, in the order of a run."""
    known = {} if known is None else known
    if run in known:
        return known[run]
    recall_pins(run.directory)
    found: dict[str, StageStatus] = {}
    known[run] = found
    for stage in STAGES:
        above = {
            name: statuses_of(link.run, known)[link.stage]
            for name, link in run.inputs(stage).items()
        }
        found[stage.name] = _status(run, stage, above)
    return found


def _status(run: RunToJudge, stage: Stage[Any], above: ByStage) -> StageStatus:
    found = _standing(run, stage, above)
    if found.state in RESTS:
        return found
    if is_held(run.directory, stage.name):
        return replace(found, state=State.RUNNING, why=how_far(run.progress_file(stage)))
    failure = failure_of(run.partial(stage))
    if failure is not None and found.state is not State.DAMAGED:
        return replace(found, state=State.FAILED, why=failure)
    if found.state is State.PARTIAL:
        return replace(found, why=how_far(run.progress_file(stage)))
    return found


def _standing(run: RunToJudge, stage: Stage[Any], above: ByStage) -> StageStatus:
    directory = run.directory / stage.name
    config = run.recipe.stages.get(stage.name)
    try:
        manifest = read_manifest(directory)
    except DataError as error:
        return StageStatus(stage.name, State.DAMAGED, str(error), None)
    if config is None and (manifest is None or manifest.skipped):
        return StageStatus(stage.name, State.SKIPPED, "", manifest)
    if manifest is None:
        state = State.PARTIAL if run.partial(stage).exists() else State.MISSING
        return StageStatus(stage.name, state, "", None)
    damage = damage_of(directory, manifest)
    if damage:
        return StageStatus(stage.name, State.DAMAGED, damage, manifest)
    for name, status in above.items():
        if status.state not in READABLE:
            why = f"{name} is {status.state}"
            return StageStatus(stage.name, State.STALE, why, manifest)
    try:
        commits = commits_of(config, ask=False)
        manifests = {name: s.manifest for name, s in above.items() if s.manifest}
        payload = payload_of(stage, config, manifests, commits, run.directory, run.recipe.runtime)
    except (MissingInputError, DataError) as error:
        return StageStatus(stage.name, State.STALE, str(error), manifest)
    if not is_as_recorded(manifest, payload):
        why = "; ".join(differences(manifest.payload, payload))
        return StageStatus(stage.name, State.STALE, why, manifest)
    if manifest.missing:
        return StageStatus(stage.name, State.INCOMPLETE, "; ".join(manifest.missing), manifest)
    return StageStatus(stage.name, State.FRESH, "", manifest)


def refuse_unfit_upstream(run: RunToJudge, stage: Stage[Any]) -> None:
    """Raises MissingInputError, StaleInputError or DataError: what a stage reads cannot be read."""
    known: Known = {}
    for link in run.inputs(stage).values():
        status = statuses_of(link.run, known)[link.stage]
        directory = link.directory
        command = link.run.command(link.stage)
        if status.state is State.SKIPPED and status.manifest is None:
            continue
        if status.state in (State.MISSING, State.PARTIAL, State.FAILED):
            failed = f"; it failed: {status.why}" if status.state is State.FAILED else ""
            raise MissingInputError(f"{directory}: not made yet{failed}; run `{command}`")
        if status.state is State.RUNNING:
            raise MissingInputError(
                f"{directory}: another process is at work on it; wait for it"
                f"{f' ({status.why})' if status.why else ''}"
            )
        if status.state is State.DAMAGED:
            raise DataError(f"{directory}: {status.why}; run `{command}` to make it again")
        if status.state is State.STALE:
            raise StaleInputError(
                f"{directory}: made with other settings: {status.why}; run `{command}`"
            )
