"""Run directories: which stage is up to date, what a stage reads, how its output appears.

A stage writes into `<stage>.partial/`, its manifest last, and the folder is renamed into place.
A manifest that exists means the stage is finished; a partial folder with the same fingerprint
is continued, any other is thrown away.
"""

import json
import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline.chain import BY_NAME, STAGES
from pipeline.fingerprint import differences, fingerprint, payload_of
from pipeline.locks import stage_lock
from pipeline.provenance import Stopwatch
from pipeline.recipe import Recipe
from schemas.errors import ConfigError, DataError, MissingInputError, StaleInputError
from schemas.ids import file_sha256
from schemas.manifest import MANIFEST_NAME, Manifest, OutputFile, read_manifest
from schemas.stage import Config, Progress, Stage, StageContext

_PARTIAL_RECORD = ".fingerprint"


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
    DAMAGED = "damaged"
    SKIPPED = "not in the recipe"


@dataclass(frozen=True)
class StageStatus:
    """A stage's state and the reason for it, for people."""

    stage: str
    state: State
    why: str
    manifest: Manifest | None


class Run:
    """A run directory under one recipe."""

    def __init__(self, directory: Path, recipe: Recipe) -> None:
        """Raises ConfigError where the directory belongs to another recipe or cannot be written."""
        self.directory = directory
        self.recipe = recipe

    def claim(self) -> None:
        """Make the directory, and write down whose it is.

        Raises:
            ConfigError: it is another recipe's, or cannot be written.
        """
        self.refuse_foreign()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if not self._record.exists():
                _write_synced(self._record, json.dumps({"recipe": self.recipe.name}))
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
        for stage in STAGES:
            found[stage.name] = self._status(stage, found)
        return found

    def _status(self, stage: Stage[Any], above: Mapping[str, StageStatus]) -> StageStatus:
        directory = self.directory / stage.name
        config = self.recipe.stages.get(stage.name)
        manifest = read_manifest(directory)
        if config is None and (manifest is None or manifest.skipped):
            return StageStatus(stage.name, State.SKIPPED, "", manifest)
        if manifest is None:
            state = State.PARTIAL if self._partial(stage).exists() else State.MISSING
            return StageStatus(stage.name, state, "", None)
        damage = _damage(directory, manifest)
        if damage:
            return StageStatus(stage.name, State.DAMAGED, damage, manifest)
        for name in stage.inputs:
            if above[name].state not in (State.FRESH, State.SKIPPED):
                why = f"{name} is {above[name].state}"
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
            _finish_publishing(self.directory / stage.name)
            self._refuse_unfit_upstream(stage)
            upstream = _present(self._upstream(stage))
            config = self.recipe.stages.get(stage.name)
            payload = payload_of(stage, config, upstream)
            directory = self.directory / stage.name
            manifest = read_manifest(directory)
            if (
                manifest
                and manifest.fingerprint == fingerprint(payload)
                and not _damage(directory, manifest)
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
        resumed = _open_partial(partial, fingerprint(payload))
        watch = Stopwatch()
        if resumed:
            progress.note(f"{stage.name}: continuing where it was interrupted")
        recorder = _WarningRecorder(progress)
        context = StageContext(
            inputs={n: self.directory / n for n, m in upstream.items() if not m.skipped},
            output=partial,
            runtime=self.recipe.runtime,
            progress=recorder,
        )
        counts = stage.run(config, context) if config else {}
        (partial / _PARTIAL_RECORD).unlink()
        manifest = Manifest(
            stage=stage.name,
            fingerprint=fingerprint(payload),
            payload=payload,
            counts=dict(counts),
            warnings=recorder.warnings,
            outputs=_outputs(partial),
            provenance=watch.provenance(resumed),
            skipped=config is None,
        )
        _write_synced(partial / MANIFEST_NAME, manifest.model_dump_json(indent=1))
        _publish(partial, self.directory / stage.name)
        return manifest

    def _partial(self, stage: Stage[Any]) -> Path:
        return self.directory / f"{stage.name}.partial"

    def _upstream(self, stage: Stage[Any]) -> dict[str, Manifest | None]:
        return {name: read_manifest(self.directory / name) for name in stage.inputs}

    def _refuse_unfit_upstream(self, stage: Stage[Any]) -> None:
        statuses = self.statuses()
        for name in stage.inputs:
            status = statuses[name]
            directory = self.directory / name
            words = (name, "--recipe", self.recipe.path, "--run-dir", self.directory)
            command = shlex.join(["prefline", *map(str, words)])
            if status.state is State.SKIPPED and status.manifest is None:
                continue
            if status.state in (State.MISSING, State.PARTIAL):
                raise MissingInputError(f"{directory}: not made yet; run `{command}`")
            if status.state is State.DAMAGED:
                raise DataError(f"{directory}: {status.why}; run `{command}` to make it again")
            if status.state is State.STALE:
                raise StaleInputError(
                    f"{directory}: made with other settings: {status.why}; run `{command}`"
                )


def _present(manifests: Mapping[str, Manifest | None]) -> dict[str, Manifest]:
    return {name: manifest for name, manifest in manifests.items() if manifest}


class _WarningRecorder:
    """Passes progress on, and keeps the warnings for the manifest."""

    def __init__(self, progress: Progress) -> None:
        self.task = progress.task
        self.note = progress.note
        self.warnings: list[str] = []
        self._warn = progress.warn

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        self._warn(message)


def _open_partial(partial: Path, wanted: str) -> bool:
    """Keep a partial folder of the same fingerprint, replace any other; whether it was kept."""
    record = partial / _PARTIAL_RECORD
    if record.exists() and record.read_text() == wanted:
        return True
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    record.write_text(wanted)
    return False


def _outputs(directory: Path) -> dict[str, OutputFile]:
    return {
        str(path.relative_to(directory)): OutputFile(
            size_bytes=path.stat().st_size, sha256=file_sha256(path)
        )
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def _damage(directory: Path, manifest: Manifest) -> str:
    """What is wrong with a finished stage's files; empty where nothing is."""
    for name, output in manifest.outputs.items():
        path = directory / name
        if not path.exists():
            return f"{name} is missing"
        if path.stat().st_size != output.size_bytes:
            return f"{name} has {path.stat().st_size} bytes instead of {output.size_bytes}"
    return ""


def _write_synced(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())


def _publish(partial: Path, directory: Path) -> None:
    """Put a finished folder in the stage's place; `_finish_publishing` repairs a kill in here."""
    old = directory.with_name(directory.name + ".old")
    if old.exists():
        shutil.rmtree(old)
    if directory.exists():
        os.rename(directory, old)
    os.rename(partial, directory)
    if old.exists():
        shutil.rmtree(old)


def _finish_publishing(directory: Path) -> None:
    """Complete a publish that was killed between its two renames."""
    partial = directory.with_name(directory.name + ".partial")
    if (partial / MANIFEST_NAME).exists():
        _publish(partial, directory)
    old = directory.with_name(directory.name + ".old")
    if old.exists() and directory.exists():
        shutil.rmtree(old)
