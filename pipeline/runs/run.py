"""Run directories: which stage is up to date, what a stage reads, how its output appears.

A manifest that exists means the stage is finished.
"""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline.recipe import Recipe
from pipeline.runs.failures import noting_failure
from pipeline.runs.fingerprint import continuation_of, fingerprint, is_as_recorded, payload_of
from pipeline.runs.locks import stage_lock
from pipeline.runs.pins import commits_of, recall_pins, write_pins
from pipeline.runs.progress_file import Recorder, WatchedProgress
from pipeline.runs.provenance import Stopwatch
from pipeline.runs.publish import (
    SAID_RECORD,
    Finished,
    complete,
    damage_of,
    finish_publishing,
    is_record_half_written,
    open_partial,
    publish,
    read_finished,
    record_finished,
    reopen,
)
from pipeline.runs.stage_status import Known, StageStatus, refuse_unfit_upstream, statuses_of
from pipeline.stage_registry import BY_NAME
from schemas.errors import ConfigError, DataError
from schemas.files import read_record, refuse_remote, write_text
from schemas.manifest import MANIFEST_NAME, Manifest, read_manifest
from schemas.stage import Config, Progress, Stage, StageContext


class Outcome(StrEnum):
    """What asking for a stage came to."""

    UP_TO_DATE = "up to date"
    DONE = "done"
    SKIPPED = "not in the recipe"


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

    def under(
        self,
        recipe: Recipe,
        directory: Path | None = None,
        links: Mapping[str, Mapping[str, Link]] | None = None,
    ) -> "Run":
        """A run of the same command under another recipe: here, or in a directory of its own."""
        made = replace(recipe, overrides=self.recipe.overrides, variants=self.recipe.variants)
        return Run(directory or self.directory, made, links or self._links, self._options)

    def claim(self) -> None:
        """Make the directory, and write down whose it is.

        Raises:
            ConfigError: it is another recipe's, holds files of someone's own, or cannot be written.
        """
        self.refuse_foreign()
        refuse_remote(self.directory)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if not self._record.exists():
                write_text(self._record, json.dumps({"recipe": self.recipe.name}) + "\n")
        except OSError as error:
            raise ConfigError(
                f"{self.directory}: cannot be written ({error.strerror}); choose another --run-dir"
            ) from error

    def refuse_foreign(self) -> None:
        """Raises ConfigError where the directory is another recipe's, or no run directory."""
        try:
            owner = json.loads(read_record(self._record))["recipe"]
        except (FileNotFoundError, NotADirectoryError):
            return self._refuse_files_of_others()
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

    def _refuse_files_of_others(self) -> None:
        """Raises ConfigError where there is something, and no record that says we made it."""
        try:
            found = sorted(path.name for path in self.directory.iterdir())
        except FileNotFoundError:
            return
        except NotADirectoryError as error:
            raise ConfigError(
                f"{self.directory}: cannot be written (a file is there, or above it, where folders "
                "should be); choose another --run-dir"
            ) from error
        theirs = [name for name in found if not is_record_half_written(name)]
        if theirs:
            raise ConfigError(
                f"{self.directory}: holds files that are no run of prefline ({theirs[0]}"
                f"{' and others' if len(theirs) > 1 else ''}), and no {self._record.name}; "
                "choose a new or empty --run-dir"
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

    def statuses(self, known: Known | None = None) -> Mapping[str, StageStatus]:
        """How every stage stands to the recipe and to its upstream, in the order of a run.

        `known` is shared by rounds that are looked at together.
        """
        return statuses_of(self, known)

    def inputs(self, stage: Stage[Any]) -> dict[str, Link]:
        """What a stage reads, by the name under which it reads it."""
        own = {name: Link(self, name) for name in stage.inputs}
        return own | dict(self._links.get(stage.name, {}))

    def refuse_damaged(self, stage: Stage[Any]) -> None:
        """Raises DataError where a finished stage's files are not what it has written."""
        directory = self.directory / stage.name
        manifest = read_manifest(directory)
        damage = damage_of(directory, manifest) if manifest else ""
        if damage:
            raise DataError(
                f"{directory}: damaged: {damage}; run `{self.command(stage.name)}` to make it again"
            )

    def progress_file(self, stage: Stage[Any]) -> Path:
        """Where a stage at work notes how far it is."""
        return self.directory / ".progress" / f"{stage.name}.json"

    def execute(self, stage: Stage[Any], progress: Progress) -> tuple[Outcome, Manifest]:
        """Bring one stage up to date, its upstream being so already.

        Raises:
            MissingInputError, StaleInputError, DataError: the upstream is not fit to be read.
            RunLockedError: another process is at this stage.
        """
        recall_pins(self.directory)
        with stage_lock(self.directory, stage.name):
            directory = self.directory / stage.name
            said = finish_publishing(directory)
            if said:
                progress.note(f"{stage.name}: {said}")
            refuse_unfit_upstream(self, stage)
            upstream = self.upstream(stage)
            config = self.recipe.stages.get(stage.name)
            commits = commits_of(config, ask=True)
            write_pins(self.directory, commits)
            payload = payload_of(
                stage, config, upstream, commits, self.directory, self.recipe.runtime
            )
            manifest = _readable_manifest(directory)
            if (
                manifest
                and is_as_recorded(manifest, payload)
                and not manifest.missing
                and not damage_of(directory, manifest)
            ):
                (directory / MANIFEST_NAME).touch()
                self.progress_file(stage).unlink(missing_ok=True)
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
        partial = self.partial(stage)
        left = partial.exists()
        resumed = self._open(stage, partial, payload)
        wanted = fingerprint(payload)
        finished = read_finished(partial, wanted)
        if resumed:
            progress.note(f"{stage.name}: continuing where it was interrupted, or had ended")
        elif left:
            progress.note(f"{stage.name}: what an interrupted run left has other settings")
        # Absolute: a benchmark's task may work in a folder of its own.
        watched = WatchedProgress(progress, self.progress_file(stage).absolute())
        if finished is None:
            with noting_failure(partial):
                finished = self._work(stage, config, payload, upstream, watched, resumed)
        manifest = complete(partial, finished, stage.content)
        publish(partial, self.directory / stage.name)
        watched.forget()
        return manifest

    def _work(
        self,
        stage: Stage[Any],
        config: Config | None,
        payload: dict[str, Any],
        upstream: Mapping[str, Manifest],
        progress: Progress,
        resumed: bool,
    ) -> Finished:
        """Do a stage's work, and put on record that it is done."""
        partial, watch = self.partial(stage), Stopwatch()
        recorder = Recorder(progress, partial / SAID_RECORD)
        discarded, missing = list[Path](), list[str]()

        def discard(*paths: Path) -> None:
            discarded.extend(path for path in paths if os.path.lexists(path))

        context = StageContext(
            inputs={
                name: link.directory
                for name, link in self.inputs(stage).items()
                if name in upstream and not upstream[name].skipped
            },
            output=partial,
            runtime=self.recipe.runtime,
            progress=recorder,
            discard=discard,
            is_missing=missing.append,
        )
        counts = stage.run(config, context) if config else {}
        manifest = Manifest(
            stage=stage.name,
            fingerprint=fingerprint(payload),
            payload=payload,
            counts=dict(counts),
            notes=recorder.notes,
            warnings=recorder.warnings,
            missing=missing,
            provenance=watch.provenance(resumed),
            skipped=config is None,
        )
        return record_finished(partial, manifest, discarded)

    def _open(self, stage: Stage[Any], partial: Path, payload: Mapping[str, Any]) -> bool:
        """Open the partial folder; whether there is something in it to go on from."""
        wanted, continuation = fingerprint(payload), continuation_of(stage, payload)
        directory = self.directory / stage.name
        taken_over = (stage.reuses, (partial, directory)) if stage.reuses else None
        if open_partial(partial, wanted, continuation, taken_over):
            return True
        manifest = _readable_manifest(directory)
        if manifest is None or damage_of(directory, manifest):
            return False
        tried_again = manifest.missing and manifest.fingerprint == wanted
        continued = (
            continuation is not None
            and (directory / stage.continues_from).is_dir()
            and continuation_of(stage, manifest.payload) == continuation
        )
        if not (tried_again or continued):
            return False
        reopen(directory, partial, wanted, continuation)
        return True

    def partial(self, stage: Stage[Any]) -> Path:
        """Where a stage is made before it is published."""
        return self.directory / f"{stage.name}.partial"

    def upstream(self, stage: Stage[Any]) -> dict[str, Manifest]:
        """The manifests of what a stage reads, as far as they are there."""
        links = self.inputs(stage).items()
        found = {name: read_manifest(link.directory) for name, link in links}
        return {name: manifest for name, manifest in found.items() if manifest}

    def command(self, stage: str) -> str:
        """What a person types to bring a stage up to date."""
        settings = [word for one in self.recipe.overrides for word in ("--set", one)]
        recipe = ["--recipe", str(self.recipe.path)]
        return shlex.join(["prefline", stage, *recipe, *self._options, *settings])


def _readable_manifest(directory: Path) -> Manifest | None:
    """The manifest of a stage, None also where it cannot be read: then the stage is made again."""
    try:
        return read_manifest(directory)
    except DataError:
        return None
