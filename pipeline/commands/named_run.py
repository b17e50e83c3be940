"""The run that a command's options name."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.commands.run_record import Made, remember
from pipeline.recipe import Recipe, check_recipe, with_overrides
from pipeline.runs.rounds import pick_round, stages_of
from pipeline.runs.run import Run
from pipeline.sweeps.variant_runs import settled
from pipeline.toml_text import toml_text
from schemas.errors import BackendError, ConfigError
from schemas.files import write_text
from schemas.manifest import Manifest, read_manifest
from schemas.stage import Stage


def look_at(recipe: Recipe, run_dir: Path | None) -> Run:
    """The run of a recipe, which need not have begun. Raises ConfigError where it is another's."""
    run = Run(run_dir or Path("runs") / recipe.name, recipe)
    run.refuse_foreign()
    return settled(run)


def open_run(recipe: Recipe, run_dir: Path | None) -> Run:
    """The run of a recipe, begun. Raises ConfigError where it is another's."""
    run = look_at(recipe, run_dir)
    run.claim()
    remember(run.directory, recipe.name, Made(recipe.path, recipe.overrides))
    return run


def begin_run(tree: Mapping[str, Any], run_dir: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Check the recipe of a tree of settings, begin its run, and keep it there as recipe.toml.

    `overrides` are `section.key=value`, and part of what is kept.

    Raises:
        ConfigError: the settings cannot be, or the directory is not this recipe's.
    """
    path = run_dir / "recipe.toml"
    text = toml_text(with_overrides(tomllib.loads(toml_text(tree)), overrides))
    recipe = check_recipe(tomllib.loads(text), path)
    open_run(recipe, run_dir)
    write_text(path, text)
    return recipe


def open_round(first: Run, stage: Stage[Any], number: int) -> Run:
    """One round of a run, begun. Raises ConfigError where the stage is the same in all rounds."""
    if stage not in stages_of(number):
        raise ConfigError(f"{stage.name}: is the same in every round; leave --round out")
    run = pick_round(first, number)
    run.claim()
    return run


def refuse_all_missing(run: Run) -> None:
    """Raises BackendError where any stage of a run is done for its readers, but not all of it."""
    for name, manifest in _manifests(run):
        refuse_missing(name, manifest)


def incomplete(run: Run) -> list[str]:
    """What the stages of a run could not do, and would do if the same command came again."""
    return [
        f"{name}: {what}"
        for name, manifest in _manifests(run)
        if manifest is not None
        for what in manifest.missing
    ]


def _manifests(run: Run) -> list[tuple[str, Manifest | None]]:
    return [(name, read_manifest(run.directory / name)) for name in run.recipe.stages]


def refuse_missing(stage: str, manifest: Manifest | None) -> None:
    """Raises BackendError where a stage is done for those that read it, but not all of it."""
    if manifest is not None and manifest.missing:
        more = f" and {len(manifest.missing) - 1} more" if len(manifest.missing) > 1 else ""
        raise BackendError(
            f"{stage}: not all of it could be done: {manifest.missing[0]}{more}; the rest is kept: "
            "run the same command again to try what is missing"
        )
