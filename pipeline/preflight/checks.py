"""All that can be known of a recipe without loading anything heavy."""

from collections.abc import Callable, Iterable, Iterator

from pipeline.preflight import machine, models, prompts, remote, sense, servers, tasks
from pipeline.recipe import Recipe
from pipeline.stage_registry import BY_NAME
from schemas.errors import ConfigError, PipelineError

_CHECKS: tuple[Callable[[Recipe], Iterable[str]], ...] = (
    remote.unreachable_data,
    servers.missing_keys,
    tasks.unknown_tasks,
    machine.missing_programs,
    machine.missing_devices,
    sense.pointless_sampling,
    sense.pointless_rounds,
    sense.no_held_out_prompts,
    sense.no_such_checkpoint,
    sense.mixed_weights,
    models.unfit_models,
    models.missing_modules,
)


def problems(recipe: Recipe) -> list[str]:
    """Everything that is known to fail, one line each; what only a server can tell is not here."""
    recipes = [recipe, *(variant.recipe for variant in recipe.variants)]
    found = [problem for one in recipes for problem in _problems(one)]
    return list(dict.fromkeys(found))


def _problems(recipe: Recipe) -> Iterator[str]:
    yield from _files(recipe)
    for check in _CHECKS:
        yield from check(recipe)


def warnings(recipe: Recipe) -> list[str]:
    """What will work, and not as one would like."""
    return [*machine.slow_numbers(recipe), *prompts.few_held_out_prompts(recipe)]


def refuse(recipe: Recipe, found: Iterable[str]) -> None:
    """Raises ConfigError with all problems, where there is one."""
    listed = list(found)
    if listed:
        head = f"{recipe.path}: {len(listed)} problem{'s' if len(listed) > 1 else ''}:"
        raise ConfigError(("\n  " if len(listed) > 1 else " ").join([head, *listed]))


def _files(recipe: Recipe) -> Iterator[str]:
    """Data, prompts, models, adapters with their bases, templates: whatever is read from a path."""
    for name, config in recipe.stages.items():
        try:
            BY_NAME[name].files(config)
        except PipelineError as error:
            yield str(error)
