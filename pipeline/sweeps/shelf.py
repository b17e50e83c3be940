"""Finished runs side by side: headlines, the settings in which they differ, how long they took."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.stage_registry import STAGES
from schemas.errors import DataError, MissingInputError
from schemas.files import read_record
from schemas.manifest import Manifest, read_manifest

RECORD = "run.json"
_MOST_SETTINGS = 6


@dataclass(frozen=True)
class Shelved:
    """One run as its manifests tell of it.

    Attributes:
        directory, recipe: where it is, and of which recipe.
        headline: value, ci_low, ci_high, n, verdict, judge of its win rate; None without one.
        settings: of all finished stages, by `stage.key`.
        seconds: of all finished stages.
        finished: when the last of them ended, ISO 8601; "" where none has.
    """

    directory: Path
    recipe: str
    headline: Mapping[str, Any] | None
    settings: Mapping[str, Any]
    seconds: float
    finished: str


def runs_under(folder: Path) -> list[Shelved]:
    """All runs in a folder, the newest first. Raises MissingInputError where there is no folder."""
    if not folder.is_dir():
        raise MissingInputError(f"{folder}: no such folder; runs are made under runs/")
    found = [read_run(path.parent) for path in sorted(folder.glob(f"*/{RECORD}"))]
    return sorted(found, key=lambda run: run.finished, reverse=True)


def read_run(directory: Path) -> Shelved:
    """A run. Raises MissingInputError where there is none."""
    try:
        recipe = str(json.loads(read_record(directory / RECORD))["recipe"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MissingInputError(f"{directory}: is no run directory of prefline") from error
    manifests = {stage.name: _manifest(directory / stage.name) for stage in STAGES}
    done = {name: one for name, one in manifests.items() if one is not None and not one.skipped}
    return Shelved(
        directory=directory,
        recipe=recipe,
        headline=_headline(directory / "evaluate" / "win_rates.json"),
        settings={
            f"{name}.{key}": value
            for name, one in done.items()
            for key, value in _flat(one.payload.get("config"), "")
        },
        seconds=sum(one.provenance.wall_seconds for one in done.values()),
        finished=max((one.provenance.finished_at for one in done.values()), default=""),
    )


def differing(runs: Sequence[Shelved]) -> list[str]:
    """The settings in which the runs are not all alike, those that only some have last."""
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    unlike = [key for key in keys if len({repr(run.settings.get(key)) for run in runs}) > 1]
    return sorted(unlike, key=lambda key: sum(key not in run.settings for run in runs))


def settings_words(run: Shelved, keys: Sequence[str]) -> str:
    """Some settings of a run, the first few."""
    own = [key for key in keys if key in run.settings]
    said = [f"{key} = {_word(run.settings[key])}" for key in own[:_MOST_SETTINGS]]
    more = [f"and {len(own) - _MOST_SETTINGS} more"] if len(own) > _MOST_SETTINGS else []
    return ", ".join(said + more)


def headline_words(run: Shelved) -> str:
    """A run's win rate with its interval and conclusion; empty where it has none."""
    found = run.headline
    if found is None or found["value"] is None:
        return ""
    ends = "" if found["ci_low"] is None else f" ({found['ci_low']:.1%} to {found['ci_high']:.1%})"
    return f"{found['value']:.1%}{ends}, n {found['n']}, by {found['judge']}"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _manifest(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except DataError:
        return None


def _headline(path: Path) -> Mapping[str, Any] | None:
    try:
        judged = json.loads(read_record(path))["judge"]
        head = judged["headline"]
        wanted = ("value", "ci_low", "ci_high", "n", "verdict")
        return {key: head.get(key) for key in wanted} | {"judge": judged.get("judge")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Settings by their path; a list of sections by number."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{key}.{number}")
    else:
        yield key, value
