"""Runs of recipes from a program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.commands.named_run import begin_run
from pipeline.commands.options import resolve
from pipeline.commands.runs.run import run_recipe
from pipeline.display.outcome import read_summary
from pipeline.recipe import with_null
from prefline.notebooks import outside_event_loops
from schemas.errors import MissingInputError


@dataclass(frozen=True)
class FinishedRun:
    """A run directory whose stages are up to date."""

    directory: Path

    @property
    def summary(self) -> dict[str, Any] | None:
        """Every number on the page, as `prefline run --json` prints it; None without [report]."""
        return read_summary(self.directory)

    @property
    def page(self) -> Path:
        """The page."""
        return self.directory / "report" / "index.html"

    def table(self, name: str) -> pl.DataFrame:
        """A table by stage and name, as in `evaluate/verdicts`. Raises MissingInputError."""
        path = self.directory / f"{name}.parquet"
        if not path.is_file():
            raise MissingInputError(f"{path}: the run has no such table")
        return pl.read_parquet(path, glob=False)


@outside_event_loops
def run(
    recipe: str | Path | Mapping[str, Any],
    run_dir: str | Path | None = None,
    settings: Sequence[str] = (),
) -> FinishedRun:
    """Run every stage of a recipe that is not up to date.

    Args:
        recipe: a file, the name of a shipped recipe, or its settings as a tree, which are kept
            in the run directory as recipe.toml.
        run_dir: where the run lives; None takes runs/<the recipe's name>.
        settings: `section.key=value`, as --set takes them.

    Raises:
        PipelineError: what the user can mend.
    """
    folder = None if run_dir is None else Path(run_dir)
    if isinstance(recipe, Mapping):
        folder = folder or Path("runs") / str(recipe.get("name", "unnamed"))
        last = run_recipe(begin_run(with_null(recipe), folder, settings), folder)
    else:
        last = run_recipe(resolve(Path(recipe), list(settings)), folder)
    return FinishedRun(last.directory)
