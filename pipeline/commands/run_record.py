"""By which recipe a run directory was made: kept in it, so that the directory says it all."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ConfigError, MissingInputError, StaleInputError
from schemas.files import read_record, write_text

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
        if read_record(record).decode() != text:
            write_text(record, text)
    except OSError as error:
        raise ConfigError(
            f"{run_dir}: cannot be written ({error.strerror}); choose another --run-dir"
        ) from error


@contextmanager
def remembering(run_dir: Path, name: str, made: Made) -> Iterator[None]:
    """Keep which recipe a run is of, while a stage of it is asked for.

    What is refused for its upstream has changed nothing, so the record is as it was. Raises
    ConfigError.
    """
    record = run_dir / RECORD
    before = read_record(record).decode()
    remember(run_dir, name, made)
    try:
        yield
    except (MissingInputError, StaleInputError):
        if "path" in json.loads(before):
            write_text(record, before)
        raise


def recipe_of(run_dir: Path) -> Made:
    """Which recipe made a run.

    Raises:
        MissingInputError: no run is there, or its recipe is gone.
        ConfigError: the run does not say it, as one of an earlier version.
    """
    try:
        said = json.loads(read_record(run_dir / RECORD))
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
