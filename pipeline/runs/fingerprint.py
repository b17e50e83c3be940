"""What makes a stage's output what it is, as canonical JSON and its hash."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from schemas.errors import MissingInputError
from schemas.hashes import known_sha256
from schemas.manifest import Manifest
from schemas.stage import Config, Runtime, Stage

_ROOT = Path(__file__).resolve().parents[2]


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, NaN refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(payload: Mapping[str, Any]) -> str:
    """SHA-256 of a payload's canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical_json(payload).encode()).hexdigest()


def payload_of(
    stage: Stage[Any],
    config: Config | None,
    upstream: Mapping[str, Manifest],
    commits: Mapping[str, str],
    directory: Path,
    runtime: Runtime | None = None,
) -> dict[str, Any]:
    """Everything that changes a stage's output: version, config, raw files, upstream content.

    `config` is None for a stage that the recipe leaves out; `commits` are those of models of a hub;
    `directory` is the run's; of `runtime`, None for the default, only batch sizes are looked at.

    Raises:
        MissingInputError: a raw file that the config names is not there.
    """
    if config is None:
        return {"stage": stage.name, "skipped": True}
    pinned: dict[str, Any] = {"commits": dict(commits)} if commits else {}
    batches = (runtime or Runtime()).batches(stage.batches)
    if batches:
        pinned["runtime"] = batches
    names = [name for name in stage.beside(config) if (directory / name).is_file()]
    beside = {name: _content(directory / name) for name in names}
    return pinned | {
        "stage": stage.name,
        "version": stage.version,
        "config": config.model_dump(mode="json"),
        "files": {_named(path): _content(path) for path in sorted(stage.files(config))} | beside,
        "inputs": {
            name: {file: o.content or o.sha256 for file, o in sorted(manifest.outputs.items())}
            for name, manifest in upstream.items()
            if not manifest.skipped
        },
    }


def is_as_recorded(manifest: Manifest, payload: Mapping[str, Any]) -> bool:
    """Whether a stage's output is what this payload would give.

    A setting that one version has and the other lacks is no difference where it is null: null means
    as without it, else the stage's version would be another.
    """
    recorded, config = manifest.payload.get("config"), payload.get("config")
    if config is None or recorded is None:
        return fingerprint(payload) == manifest.fingerprint
    known = {**payload, "config": _with_the_nulls_of(recorded, config)}
    return fingerprint(known) == manifest.fingerprint


def _with_the_nulls_of(recorded: Any, now: Any) -> Any:
    """Settings as they are now, with null where and only where `recorded` names it."""
    if isinstance(now, Mapping) and isinstance(recorded, Mapping):
        gone = {key for key in recorded.keys() - now.keys() if recorded[key] is None}
        there = {key for key in now if now[key] is not None or key in recorded}
        return {key: _with_the_nulls_of(recorded.get(key), now.get(key)) for key in there | gone}
    if isinstance(now, list) and isinstance(recorded, list) and len(now) == len(recorded):
        return [_with_the_nulls_of(*both) for both in zip(recorded, now, strict=True)]
    return now


def continuation_of(stage: Stage[Any], payload: Mapping[str, Any]) -> str | None:
    """What a run must share with one of this payload to go on where that one ended, as a hash.

    None where the stage cannot go on from there.
    """
    try:
        config = stage.config.model_validate(payload["config"])
    except (KeyError, ValueError):  # skipped, or written when the settings were others
        return None
    shared = stage.continuation(config)
    if shared is None:
        return None
    # A training that is gone on with has not to do with batches of what is measured with it.
    return fingerprint({k: v for k, v in payload.items() if k != "runtime"} | {"config": shared})


def _named(path: Path) -> str:
    """A file as the recipe names it; one of ours by its place here, wherever prefline lies."""
    return str(path.relative_to(_ROOT)) if path.is_relative_to(_ROOT / "evals") else str(path)


def _content(path: Path) -> str:
    """SHA-256 of a raw file."""
    if not path.exists():
        raise MissingInputError(f"{path}: no such file; correct its path in the recipe")
    return known_sha256(path)


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """The fields in which two payloads differ, as `config.n: 2 -> 4`; files only by name."""
    if where in {"files", "inputs"}:
        yield from _other_content(old or {}, new or {})
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            inner = f"{where}.{key}" if where else str(key)
            before, now = old.get(key), new.get(key)
            yield from differences(before, now, inner)
    elif old != new:
        yield f"{where}: {_short(old)} -> {_short(new)}"


def _other_content(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Raw files, or upstream stages, that are not what they were."""
    changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    if changed:
        yield f"{', '.join(changed)} {'has' if len(changed) == 1 else 'have'} other content"


def _short(value: Any) -> str:
    if value is None:
        return "(none)"
    text = value if isinstance(value, str) else canonical_json(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
