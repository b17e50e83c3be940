"""How the stages of a run stand to its recipe: fresh, stale, running, missing, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from pipeline.recipe import Recipe
from pipeline.runs.fingerprint import differences, fingerprint, payload_of
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
    RUNNING = "running"
    DAMAGED = "damaged"
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

ByStage = Mapping[str, StageStatus]


def statuses_of(run: RunToJudge) -> dict[str, StageStatus]:
    """How every stage stands to the recipe and to its upstream, in the order of a run."""
    recall_pins(run.directory)
    found: dict[str, StageStatus] = {}
    elsewhere: dict[RunToJudge, ByStage] = {run: found}
    for stage in STAGES:
        above = {
            name: _known(link.run, elsewhere)[link.stage]
            for name, link in run.inputs(stage).items()
        }
        found[stage.name] = _status(run, stage, above)
    return found


def _known(run: RunToJudge, known: dict[RunToJudge, ByStage]) -> Mapping[str, StageStatus]:
    if run not in known:
        known[run] = statuses_of(run)
    return known[run]


def _status(run: RunToJudge, stage: Stage[Any], above: ByStage) -> StageStatus:
    found = _standing(run, stage, above)
    if found.state in RESTS:
        return found
    if is_held(run.directory, stage.name):
        return replace(found, state=State.RUNNING, why=how_far(run.progress_file(stage)))
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
        if status.state not in RESTS:
            why = f"{name} is {status.state}"
            return StageStatus(stage.name, State.STALE, why, manifest)
    try:
        commits = commits_of(config, ask=False)
        payload = payload_of(stage, config, run.upstream(stage), commits)
    except (MissingInputError, DataError) as error:
        return StageStatus(stage.name, State.STALE, str(error), manifest)
    if fingerprint(payload) != manifest.fingerprint:
        why = "; ".join(differences(manifest.payload, payload))
        return StageStatus(stage.name, State.STALE, why, manifest)
    return StageStatus(stage.name, State.FRESH, "", manifest)


def refuse_unfit_upstream(run: RunToJudge, stage: Stage[Any]) -> None:
    """Raises MissingInputError, StaleInputError or DataError: what a stage reads cannot be read."""
    statuses: dict[RunToJudge, ByStage] = {}
    for link in run.inputs(stage).values():
        status = _known(link.run, statuses)[link.stage]
        directory = link.directory
        command = link.run.command(link.stage)
        if status.state is State.SKIPPED and status.manifest is None:
            continue
        if status.state in (State.MISSING, State.PARTIAL):
            raise MissingInputError(f"{directory}: not made yet; run `{command}`")
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
