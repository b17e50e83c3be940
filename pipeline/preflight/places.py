"""Finding settings wherever they stand in a recipe."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from pipeline.recipe import Recipe
from schemas.stage import Config

M = TypeVar("M", bound=BaseModel)
_HOLDERS = (BaseModel, dict, list, tuple)


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
    flat = None
    if isinstance(value, BaseModel):
        yield where, value
        flat = value.written_flat if isinstance(value, Config) else None
        inner: Mapping[Any, Any] = {key: getattr(value, key) for key in type(value).model_fields}
    elif isinstance(value, dict):
        inner = value
    else:
        inner = dict(enumerate(value))
    for key, one in inner.items():
        if isinstance(one, _HOLDERS):
            yield from _sections(one, where if key == flat else f"{where}.{key}")
