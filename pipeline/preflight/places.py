"""Finding settings wherever they stand in a recipe."""

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel

from pipeline.recipe import Recipe

M = TypeVar("M", bound=BaseModel)


def sections_of(recipe: Recipe, kind: type[M]) -> Iterator[tuple[str, M]]:
    """Every section of a kind in the stages' settings, with its place, such as `train.model`."""
    for name, config in recipe.stages.items():
        for where, section in _sections(config, name):
            if isinstance(section, kind):
                yield where, section


def values_of(recipe: Recipe, key: str) -> Iterator[tuple[str, Any]]:
    """Every setting of a name, with its place."""
    for where, section in sections_of(recipe, BaseModel):
        if key in type(section).model_fields:
            yield f"{where}.{key}", getattr(section, key)


def _sections(value: Any, where: str) -> Iterator[tuple[str, BaseModel]]:
    if isinstance(value, BaseModel):
        yield where, value
        for key in type(value).model_fields:
            yield from _sections(getattr(value, key), f"{where}.{key}")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _sections(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _sections(inner, f"{where}.{number}")
