"""What is swept: settings with several values each, and all their combinations."""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pipeline.settings.kinds import annotations_at
from schemas.errors import ConfigError
from schemas.patterns import late

SWEEP = "sweep"
SEED = "train.training.seed"
MOST = 64
"""Combinations of one sweep, at most."""
_NUMBERS = late(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", re.IGNORECASE)
_WORDS = late(r"[A-Za-z0-9_.+-]+")


@dataclass(frozen=True)
class Point:
    """One combination: its name, which a folder can have, and the settings by their keys."""

    name: str
    settings: Mapping[str, Any]

    @property
    def without_seed(self) -> Mapping[str, Any]:
        """What is chosen between; a seed is none of it."""
        return {key: value for key, value in self.settings.items() if key != SEED}


def swept_texts(key: str, text: str, sections: Mapping[str, Any]) -> list[str]:
    """The values of an override such as `0.05,0.1,0.5`; empty where it is a single one.

    Words are values only where the setting has words to choose from: in a text, a comma is a comma.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) < 2 or text[:1] in "[{\"'":
        return []
    if all(_NUMBERS.fullmatch(part) or part in ("true", "false") for part in parts):
        return parts
    section, _, inner = key.partition(".")
    found = annotations_at(sections.get(section), inner.split("."))
    is_free = not found or any("str" in str(a) or "tuple" in str(a) for a in found)
    return [] if is_free or not all(map(_WORDS.fullmatch, parts)) else parts


def axes_of(tree: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The swept settings of a recipe: of [sweep], and the seeds of [train].

    Raises:
        ConfigError: one has no list of values.
    """
    axes = dict(_leaves(tree.get(SWEEP, {}), ""))
    train = tree.get("train")
    seeds = train.get("seeds") if isinstance(train, Mapping) else None
    if isinstance(seeds, list) and seeds:
        axes[SEED] = seeds
    for key, values in axes.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"sweep.{key}: write a list of values, such as [0.05, 0.1] (got {values!r})"
            )
        if "." not in key:
            raise ConfigError(f"sweep.{key}: name a setting, such as train.loss.beta")
        if len({repr(value) for value in values}) < len(values):
            raise ConfigError(f"sweep.{key}: the same value twice")
    return axes


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else name)
    else:
        yield key, value


def points_of(axes: Mapping[str, Sequence[Any]]) -> list[Point]:
    """All combinations; the first is that of the first values.

    Raises:
        ConfigError: there are more than `MOST`.
    """
    if not axes:
        return []
    found = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    if len(found) > MOST:
        raise ConfigError(f"sweep: {len(found)} combinations; {MOST} at most")
    lasts = [key.rpartition(".")[2] for key in axes]
    short = {
        key: last if lasts.count(last) == 1 else key for key, last in zip(axes, lasts, strict=True)
    }
    return [Point(_name(point, short), point) for point in found]


def _name(point: Mapping[str, Any], short: Mapping[str, str]) -> str:
    said = "_".join(f"{short[key]}-{value}" for key, value in point.items())
    return re.sub(r"[^A-Za-z0-9._-]+", "-", said).strip("-.")


def at_point(tree: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """The tree of one combination, in which nothing is swept."""
    made = copy.deepcopy(dict(tree))
    made.pop(SWEEP, None)
    for key, value in point.settings.items():
        *parents, last = key.split(".")
        node: Any = made
        for parent in parents:
            node = _child(node, parent, key)
        if isinstance(node, list):
            node[_index(node, last, key)] = value
        else:
            node[last] = value
    return made


def _child(node: Any, name: str, key: str) -> Any:
    inner = node[_index(node, name, key)] if isinstance(node, list) else node.setdefault(name, {})
    if not isinstance(inner, dict | list):
        raise ConfigError(f"sweep.{key}: {name} is not a section")
    return inner


def _index(node: Sequence[Any], name: str, key: str) -> int:
    if not name.isdigit() or int(name) >= len(node):
        raise ConfigError(f"sweep.{key}: {name} is not an index below {len(node)}")
    return int(name)
