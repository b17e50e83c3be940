"""The models that a stage's settings name, and the commits of those that come from a hub.

A run writes the commits down when it first needs them: however long it takes, and whatever moves on
a hub meanwhile, its stages read the same weights.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from evals.models.checkpoints import ModelSource
from evals.models.hub import commit_of, hub_key, pin, pins
from schemas.errors import DataError
from schemas.files import first_line, read_record, write_json

PINS = "hub.json"


def models_in(value: Any) -> Iterator[ModelSource]:
    """Every model that settings name, at any depth; an adapter's base behind it."""
    if isinstance(value, ModelSource):
        yield value
        if base := value.base:
            yield base
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from models_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from models_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from models_in(inner)


def commits_of(config: BaseModel | None, *, ask: bool) -> dict[str, str]:
    """The commit of every model of a hub that settings name; those that are known.

    `ask` lets the hub be asked for what the run has not written down.
    """
    found = {
        hub_key(model.path, model.revision): commit_of(model.path, model.revision, ask=ask)
        for model in models_in(config)
        if model.folder is None
    }
    return {key: commit for key, commit in found.items() if commit}


def recall_pins(run: Path) -> None:
    """Hold on to what a run, or the run that it is a round of, has written down.

    Raises:
        DataError: something is written down there, and cannot be read.
    """
    for folder in (run.parent, run):
        if (folder / "run.json").is_file() and os.path.lexists(path := folder / PINS):
            try:
                pin(json.loads(read_record(path)))
            except (OSError, ValueError, AttributeError, TypeError) as error:
                raise DataError(
                    f"{path}: cannot be read ({first_line(error)}); it says which commits of hub "
                    "models the run holds on to: delete it to have the hub asked again"
                ) from error


def write_pins(run: Path, found: Mapping[str, str]) -> None:
    """Write down what a run holds on to from now on."""
    path = run / PINS
    with suppress(FileNotFoundError):
        if json.loads(read_record(path)).items() >= found.items():
            return
    if found:
        recall_pins(run)
        write_json(path, dict(sorted({**pins(), **found}.items())))
