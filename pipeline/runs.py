"""Run directories: which stage is up to date, what a stage reads, how its output appears.

A manifest that exists means the stage is finished.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline.chain import BY_NAME, STAGES
from pipeline.fingerprint import continuation_of, differences, fingerprint, payload_of
from pipeline.locks import is_held, stage_lock
from pipeline.provenance import Stopwatch
from pipeline.publishing import (
    close_partial,
    damage_of,
    finish_publishing,
    open_partial,
    outputs_of,
    publish,
    reopen,
    write_synced,
)
from pipeline.recipe import Recipe
from pipeline.watching import WatchedProgress, how_far
from schemas.errors import ConfigError, DataError, MissingInputError, StaleInputError
from schemas.manifest import MANIFEST_NAME, Manifest, read_manifest
from schemas.stage import RESUME_FOLDER, Config, Progress, Stage, StageContext


class Outcome(StrEnum):
    """What asking for a stage came to."""

    UP_TO_DATE = "up to date"
    DONE = "done"
    SKIPPED = "not in the recipe"


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


@dataclass(frozen=True)
class Link:
    """A stage of a run, as something that another stage reads."""

    run: "Run"
    stage: str

    @property
    def directory(self) -> Path:
        """Where that stage publishes."""
        return self.run.directory / self.stage


class Run:
    """A run directory under one recipe.

    A stage reads its inputs from the same directory, unless `links` says otherwise: by stage, then
    by the name under which it reads. `options` are what a command needs to mean this run.
    """

    def __init__(
        self,
        directory: Path,
        recipe: Recipe,
        links: Mapping[str, Mapping[str, Link]] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.recipe = recipe
        self._links = links or {}
        self._options = options or ("--run-dir", str(directory))

    def claim(self) -> None:
        """Make the directory, and write down whose it is.

        Raises:
            ConfigError: it is another recipe's, or cannot be written.
        """
        self.refuse_foreign()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if not self._record.exists():
                write_synced(self._record, json.dumps({"recipe": self.recipe.name}))
        except OSError as error:
            raise ConfigError(
                f"{self.directory}: cannot be written ({error.strerror}); choose another --run-dir"
            ) from error

    def refuse_foreign(self) -> None:
        """Raises ConfigError where the directory is another recipe's, or no run directory."""
        try:
            owner = json.loads(self._record.read_text())["recipe"]
        except (FileNotFoundError, NotADirectoryError):
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self._record}: does not say whose run this is ({error}); "
                "choose another --run-dir, or delete that file"
            ) from error
        if owner != self.recipe.name:
            raise ConfigError(
                f"{self.directory}: this run belongs to the recipe {owner!r}, not "
                f"{self.recipe.name!r}; choose another --run-dir"
            )

    def refuse_missing_files(self) -> None:
        """Raises MissingInputError where a file that any stage reads from outside is not there.

        So a run that would fail in an hour fails now.
        """
        for name, config in self.recipe.stages.items():
            BY_NAME[name].files(config)

    @property
    def _record(self) -> Path:
        return self.directory / "run.json"

    def statuses(self) -> dict[str, StageStatus]:
        """How every stage stands to the recipe and to its upstream, in the order of a run."""
        found: dict[str, StageStatus] = {}
        elsewhere: dict[Run, Mapping[str, StageStatus]] = {self: found}
        for stage in STAGES:
            above = {
                name: _statuses_of(link.run, elsewhere)[link.stage]
                for name, link in self.inputs(stage).items()
            }
            found[stage.name] = self._status(stage, above)
        return found

    def inputs(self, stage: Stage[Any]) -> dict[str, Link]:
        """What a stage reads, by the name under which it reads it."""
        own = {name: Link(self, name) for name in stage.inputs}
        return own | dict(self._links.get(stage.name, {}))

    def _status(self, stage: Stage[Any], above: Mapping[str, StageStatus]) -> StageStatus:
        found = self._standing(stage, above)
        if found.state in (State.FRESH, State.SKIPPED):
            return found
        if is_held(self.directory, stage.name):
            return replace(found, state=State.RUNNING, why=how_far(self._progress_file(stage)))
        if found.state is State.PARTIAL:
            return replace(found, why=how_far(self._progress_file(stage)))
        return found

    def _progress_file(self, stage: Stage[Any]) -> Path:
        return self.directory / ".progress" / f"{stage.name}.json"

    def _standing(self, stage: Stage[Any], above: Mapping[str, StageStatus]) -> StageStatus:
        directory = self.directory / stage.name
        config = self.recipe.stages.get(stage.name)
        manifest = read_manifest(directory)
        if config is None and (manifest is None or manifest.skipped):
            return StageStatus(stage.name, State.SKIPPED, "", manifest)
        if manifest is None:
            state = State.PARTIAL if self._partial(stage).exists() else State.MISSING
            return StageStatus(stage.name, state, "", None)
        damage = damage_of(directory, manifest)
        if damage:
            return StageStatus(stage.name, State.DAMAGED, damage, manifest)
        for name, status in above.items():
            if status.state not in (State.FRESH, State.SKIPPED):
                why = f"{name} is {status.state}"
                return StageStatus(stage.name, State.STALE, why, manifest)
        try:
            payload = payload_of(stage, config, _present(self._upstream(stage)))
        except MissingInputError as error:
            return StageStatus(stage.name, State.STALE, str(error), manifest)
        if fingerprint(payload) != manifest.fingerprint:
            why = "; ".join(differences(manifest.payload, payload))
            return StageStatus(stage.name, State.STALE, why, manifest)
        return StageStatus(stage.name, State.FRESH, "", manifest)

    def execute(self, stage: Stage[Any], progress: Progress) -> tuple[Outcome, Manifest]:
        """Bring one stage up to date, its upstream being so already.

        Raises:
            MissingInputError, StaleInputError, DataError: the upstream is not fit to be read.
            RunLockedError: another process is at this stage.
        """
        with stage_lock(self.directory, stage.name):
            finish_publishing(self.directory / stage.name)
            self._refuse_unfit_upstream(stage)
            upstream = _present(self._upstream(stage))
            config = self.recipe.stages.get(stage.name)
            payload = payload_of(stage, config, upstream)
            directory = self.directory / stage.name
            manifest = read_manifest(directory)
            if (
                manifest
                and manifest.fingerprint == fingerprint(payload)
                and not damage_of(directory, manifest)
            ):
                (directory / MANIFEST_NAME).touch()
                return (Outcome.UP_TO_DATE if config else Outcome.SKIPPED), manifest
            made = self._make(stage, config, payload, upstream, progress)
            return (Outcome.DONE if config else Outcome.SKIPPED), made

    def _make(
        self,
        stage: Stage[Any],
        config: Config | None,
        payload: dict[str, Any],
        upstream: Mapping[str, Manifest],
        progress: Progress,
    ) -> Manifest:
        partial = self._partial(stage)
        left = partial.exists()
        resumed = self._open(stage, partial, payload)
        watch = Stopwatch()
        if resumed:
            progress.note(f"{stage.name}: continuing where it was interrupted, or had ended")
        elif left:
            progress.note(f"{stage.name}: what an interrupted run left has other settings")
        watched = WatchedProgress(progress, self._progress_file(stage))
        recorder = _Recorder(watched)
        context = StageContext(
            inputs={
                name: link.directory
                for name, link in self.inputs(stage).items()
                if name in upstream and not upstream[name].skipped
            },
            output=partial,
            runtime=self.recipe.runtime,
            progress=recorder,
        )
        counts = stage.run(config, context) if config else {}
        close_partial(partial)
        manifest = Manifest(
            stage=stage.name,
            fingerprint=fingerprint(payload),
            payload=payload,
            counts=dict(counts),
            notes=recorder.notes,
            warnings=recorder.warnings,
            outputs=outputs_of(partial),
            provenance=watch.provenance(resumed),
            skipped=config is None,
        )
        write_synced(partial / MANIFEST_NAME, manifest.model_dump_json(indent=1))
        publish(partial, self.directory / stage.name)
        watched.forget()
        return manifest

    def _open(self, stage: Stage[Any], partial: Path, payload: Mapping[str, Any]) -> bool:
        """Open the partial folder; whether there is something in it to go on from."""
        wanted, continuation = fingerprint(payload), continuation_of(stage, payload)
        if open_partial(partial, wanted, continuation):
            return True
        directory = self.directory / stage.name
        manifest = read_manifest(directory)
        if not (continuation and manifest and (directory / RESUME_FOLDER).is_dir()):
            return False
        if continuation_of(stage, manifest.payload) != continuation:
            return False
        if damage_of(directory, manifest):
            return False
        reopen(directory, partial, wanted, continuation)
        return True

    def _partial(self, stage: Stage[Any]) -> Path:
        return self.directory / f"{stage.name}.partial"

    def _upstream(self, stage: Stage[Any]) -> dict[str, Manifest | None]:
        return {name: read_manifest(link.directory) for name, link in self.inputs(stage).items()}

    def command(self, stage: str) -> str:
        """What a person types to bring a stage up to date."""
        return shlex.join(["prefline", stage, "--recipe", str(self.recipe.path), *self._options])

    def _refuse_unfit_upstream(self, stage: Stage[Any]) -> None:
        statuses: dict[Run, Mapping[str, StageStatus]] = {}
        for link in self.inputs(stage).values():
            status = _statuses_of(link.run, statuses)[link.stage]
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


def _statuses_of(
    run: Run, known: dict[Run, Mapping[str, StageStatus]]
) -> Mapping[str, StageStatus]:
    if run not in known:
        known[run] = run.statuses()
    return known[run]


def _present(manifests: Mapping[str, Manifest | None]) -> dict[str, Manifest]:
    return {name: manifest for name, manifest in manifests.items() if manifest}


class _Recorder:
    """Passes progress on, and keeps what was said for the manifest."""

    def __init__(self, progress: Progress) -> None:
        self.task = progress.task
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self._note = progress.note
        self._warn = progress.warn

    def note(self, message: str) -> None:
        self.notes.append(message)
        self._note(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        self._warn(message)
