"""The runs of a sweep: of each combination, and the one under the recipe that was chosen."""

import json

from pipeline.recipe import Recipe, Variant
from pipeline.runs.run import Link, Run
from pipeline.stage_registry import STAGES
from schemas.files import read_record

FOLDER = "sweep"
CHOICE = "sweep.json"


def settled(first: Run) -> Run:
    """The run under the recipe of the chosen combination, where a sweep has come to one."""
    variants = first.recipe.variants
    if not variants:
        return first
    try:
        chosen = json.loads(read_record(first.directory / FOLDER / CHOICE))["chosen"]
    except (OSError, ValueError, KeyError, TypeError):
        return first
    found = next((v.recipe for v in variants if v.point.name == chosen), None)
    return first if found is None else first.under(found)


def affected_stages(recipe: Recipe) -> set[str]:
    """The stages whose settings are swept, and all that read them."""
    keys = {key for variant in recipe.variants for key in variant.point.settings}
    found = {key.partition(".")[0] for key in keys}
    for stage in STAGES:
        if found.intersection(stage.inputs):
            found.add(stage.name)
    return found


def variant_run(first: Run, variant: Variant, affected: set[str]) -> Run:
    """The run of one combination, which reads what is shared from the first."""
    stages = {n: c for n, c in variant.recipe.stages.items() if n in affected and n != "report"}
    links = {
        stage.name: {name: Link(first, name) for name in stage.inputs if name not in affected}
        for stage in STAGES
        if stage.name in affected
    }
    directory = first.directory / FOLDER / variant.point.name
    return first.under(variant.recipe.with_stages(stages), directory, links)


def is_choice(recipe: Recipe) -> bool:
    """Whether settings are swept, and not seeds alone."""
    return any(variant.point.without_seed for variant in recipe.variants)
