"""By which recipe a run directory was made: kept in it, so that the directory says it all."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ConfigError, MissingInputError
from schemas.files import write_text

RECORD = "run.json"
OWN_RECIPE = "recipe.toml"


@dataclass(frozen=True)
class Made:
    """The file of a recipe, and the settings that were changed by `--set`."""

    recipe: Path
    overrides: Sequence[str]


def remember(run_dir: Path, name: str, made: Made) -> None:
    """Keep which recipe a run is of, by its latest command. Raises ConfigError."""
    inside = made.recipe.resolve() == (run_dir / OWN_RECIPE).resolve()
    path = OWN_RECIPE if inside else str(made.recipe.resolve())
    said = {"recipe": name, "path": path, "overrides": list(made.overrides)}
    text = json.dumps(said) + "\n"
    record = run_dir / RECORD
    try:
        if record.read_text(encoding="utf-8") != text:
            write_text(record, text)
    except OSError as error:
        raise ConfigError(
            f"{run_dir}: cannot be written ({error.strerror}); choose another --run-dir"
        ) from error


def recipe_of(run_dir: Path) -> Made:
    """Which recipe made a run.

    Raises:
        MissingInputError: no run is there, or its recipe is gone.
        ConfigError: the run does not say it, as one of an earlier version.
    """
    try:
        said = json.loads((run_dir / RECORD).read_text(encoding="utf-8"))
        path, overrides = said.get("path"), [str(one) for one in said.get("overrides", ())]
    except (FileNotFoundError, NotADirectoryError):
        raise MissingInputError(
            f"{run_dir}: no run is there; name a run directory, or the recipe with --recipe"
        ) from None
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{run_dir / RECORD}: does not say whose run this is ({error}); name the recipe with "
            "--recipe"
        ) from error
    own = run_dir / OWN_RECIPE
    if path is None and not own.is_file():
        raise ConfigError(
            f"{run_dir}: does not say by which recipe it was made; name it with --recipe"
        )
    found = own if path is None or path == OWN_RECIPE else Path(path)
    if not found.is_file():
        raise MissingInputError(
            f"{found}: the recipe of {run_dir} is not there any more; name it with --recipe"
        )
    return Made(found, overrides)
