"""A recipe: one TOML file that says what a run is made of.

It is checked whole before any stage runs, and every mistake is reported at once.
"""

import difflib
import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import Field, ValidationError

from pipeline.settings.flat import (
    apply_to_inner,
    as_written_now,
    flattened,
    nested,
    notes_on,
    own_keys,
)
from pipeline.settings.kinds import fields_of, kinds_of, tags_of, unwrapped, with_default_kinds
from pipeline.stage_registry import BY_NAME, STAGES
from pipeline.sweeps.grid import SWEEP, Point, at_point, axes_of, points_of, swept_texts
from schemas.errors import ConfigError, MissingInputError
from schemas.files import first_line, is_plain_name
from schemas.stage import Config, Runtime

S = TypeVar("S", bound=Config)

_HEADER = ("name", "description", "hardware")
# TOML has no word for nothing: the text "null" is None, in a recipe and in --set.
_DEEPEST = 100
_NULL = "null"
_NO_STAGES = ("runtime", "rounds", SWEEP)


class Rounds(Config):
    """Iterative training: the policy of one round is sampled, judged and trained in the next."""

    n: int = Field(1, ge=1, le=99, description="rounds in all")
    reference: Literal["previous", "first"] = Field(
        "previous",
        description="what a later round is held to: the policy it starts from, or the start of all",
    )
    mix_earlier_pairs: bool = Field(
        False, description="train on the pairs of the earlier rounds too"
    )
    stop_when_falls: Literal["judge", "truth"] | None = Field(
        None,
        description="end after a round whose win rate on dev prompts, by this judge of "
        "[evaluate], is below the round's before it",
    )


_SECTIONS: Mapping[str, type[Config]] = {
    **{stage.name: stage.config for stage in STAGES},
    "runtime": Runtime,
    "rounds": Rounds,
}


@dataclass(frozen=True)
class Recipe:
    """A checked recipe: the configs of its stages, by stage name, in the order of a run.

    `overrides` are the settings that were changed by `--set`, `notes` what to write in place of
    what earlier versions had. Of a sweep this is the first combination, and `variants` are all.
    """

    name: str
    description: str
    hardware: str
    runtime: Runtime
    stages: Mapping[str, Config]
    path: Path
    rounds: Rounds = field(default_factory=Rounds)
    overrides: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    variants: tuple["Variant", ...] = ()

    def with_stages(self, stages: Mapping[str, Config]) -> "Recipe":
        """The same with other stages."""
        return replace(self, stages=stages)


@dataclass(frozen=True)
class Variant:
    """One combination of what a recipe sweeps, and the recipe with it."""

    point: Point
    recipe: Recipe


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe, `overrides` being `section.key=value` with TOML values.

    Raises:
        MissingInputError: no such file.
        ConfigError: every mistake in it, one a line, with the legal values.
    """
    try:
        text = path.read_text()
    except FileNotFoundError as error:
        folder = Path(__file__).parent / "recipes"
        found = folder.rglob("*.toml")
        shipped = sorted(p.relative_to(folder).with_suffix("").as_posix() for p in found)
        raise MissingInputError(
            f"{path}: no such recipe; the shipped ones are {', '.join(shipped)} "
            "(in pipeline/recipes)"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); give a recipe file"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: byte {error.start} is not UTF-8; save the recipe as UTF-8"
        ) from error
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers and nesting without end
        raise ConfigError(f"{path}: not TOML: {first_line(error)}") from error
    notes = tuple(notes_on(_SECTIONS, tree, overrides))
    recipe = check_recipe(with_overrides(tree, overrides), path)
    return replace(recipe, overrides=tuple(overrides), notes=notes)


def with_overrides(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The tree, changed by `section.key=value`. Raises ConfigError where one cannot be applied."""
    for name, config in _SECTIONS.items():
        if name in tree:
            tree[name] = flattened(config, tree[name])
    for override in overrides:
        _apply(tree, override)
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    *parents, last = as_written_now(_SECTIONS, key.strip()).split(".")
    if not equals or not last:
        raise ConfigError(f"--set {override}: write section.key=value, as in sample.n=4")
    parsed = _parsed(value.strip())
    if apply_to_inner(_SECTIONS, tree, key.strip(), parsed):
        return
    swept = swept_texts(key.strip(), value.strip(), _SECTIONS)
    if swept:
        tree.setdefault(SWEEP, {})[".".join([*parents, last])] = [_parsed(one) for one in swept]
        return
    node: Any = tree
    for parent in parents:
        node = _child(node, parent, override)
    if not parents and not isinstance(parsed, dict) and parsed != _NULL:
        raise ConfigError(f"--set {override}: write section.key=value, as in sample.n=4")
    if isinstance(node, list):
        node[_index(node, last, override)] = parsed
    elif isinstance(node, dict):
        node[last] = parsed
    else:
        raise ConfigError(f"--set {override}: {parents[-1]} is not a section")


def _parsed(text: str) -> Any:
    """A value as TOML writes it, a list or section also as JSON does; else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(text) if text[:1] in ("[", "{") else text
    except (ValueError, RecursionError):
        return text


def _child(node: Any, name: str, override: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, name, override)]
    if not isinstance(node, dict):
        raise ConfigError(f"--set {override}: {name} is not a section")
    return node.setdefault(name, {})


def _index(node: list[Any], name: str, override: str) -> int:
    if not name.isdigit() or int(name) >= len(node):
        raise ConfigError(
            f"--set {override}: {name} is not an index below {len(node)}; write it as in "
            "ingest.datasets.0.path=FILE"
        )
    return int(name)


def with_null(value: Any) -> Any:
    """The same with the text "null" for every None, as recipes write it."""
    if isinstance(value, Mapping):
        return {key: with_null(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [with_null(inner) for inner in value]
    return _NULL if value is None else value


def _without_null(value: Any) -> Any:
    """The same with None for every "null"; a section that is null is not there."""
    if isinstance(value, dict):
        return {key: _without_null(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_null(inner) for inner in value]
    return None if value == _NULL else value


def check_recipe(tree: Mapping[str, Any], path: Path) -> Recipe:
    """The recipe of a tree of settings, `path` being where it stands or will stand.

    Raises:
        ConfigError: every mistake in it, one a line, with the legal values.
    """
    _refuse_deep(tree, path)
    points = points_of(axes_of(tree))
    if not points:
        return _checked(tree, path)
    variants = [Variant(point, _checked(at_point(tree, point), path)) for point in points]
    first = variants[0].recipe
    for key in points[0].settings:
        if key.partition(".")[0] not in BY_NAME:
            raise ConfigError(f"{path}: sweep.{key}: only settings of stages can be swept")
    if first.rounds.n > 1 and len(variants) > 1:
        raise ConfigError(
            f"{path}: rounds.n: a sweep compares one training each on the same pairs, and rounds "
            "make pairs of their own; sweep with rounds.n = 1, then run rounds with what it chose"
        )
    return first if len(variants) == 1 else replace(first, variants=tuple(variants))


def _refuse_deep(tree: Mapping[str, Any], path: Path) -> None:
    """Raises ConfigError where settings are nested deeper than Python follows."""
    level: list[Any] = [tree]
    for _ in range(_DEEPEST):
        held = (one.values() if isinstance(one, Mapping) else one for one in level)
        level = [inner for one in held for inner in one if isinstance(inner, Mapping | list)]
    if level:
        raise ConfigError(
            f"{path}: settings are nested more than {_DEEPEST} deep, and none is; check for dots "
            "and brackets too many"
        )


def _checked(tree: Mapping[str, Any], path: Path) -> Recipe:
    problems: list[str] = []
    tree = {key: value for key, value in _without_null(tree).items() if value is not None}
    for key in tree:
        if key not in (*_HEADER, *_NO_STAGES, *BY_NAME):
            problems.append(f"{key}: unknown{_suggest(key, [*_HEADER, *_NO_STAGES, *BY_NAME])}")
    name = tree.get("name")
    if not isinstance(name, str) or not name:
        problems.append("name: missing; every recipe has one, which names its run directory")
    elif not is_plain_name(name):
        problems.append(
            f"name: {name!r} cannot name a folder under runs/; take a short one without / and "
            "without a dot in front"
        )
    for key in _HEADER[1:]:
        if not isinstance(tree.get(key, ""), str):
            problems.append(f"{key}: must be a text (got {tree[key]!r})")
    runtime = _section(Runtime, "runtime", tree.get("runtime", {}), problems)
    rounds = _section(Rounds, "rounds", tree.get("rounds", {}), problems)
    configs: dict[str, Config] = {}
    for stage in STAGES:
        if stage.name in tree:
            config = _section(stage.config, stage.name, tree[stage.name], problems)
            if config is not None:
                configs[stage.name] = config
    problems += _chain_problems(set(tree) & set(BY_NAME), configs)
    problems += _round_problems(rounds, configs)
    if problems or runtime is None or rounds is None:
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        separator = "\n  " if len(problems) > 1 else " "
        raise ConfigError(separator.join([f"{path}: {count}:", *problems]))
    name, description, hardware = (tree.get(key, "") for key in _HEADER)
    return Recipe(name, description, hardware, runtime, configs, path, rounds)


def _section(config: type[S], name: str, values: Any, problems: list[str]) -> S | None:
    if not isinstance(values, dict):
        problems.append(f"{name}: must be a section, [{name}]")
        return None
    try:
        written = nested(config, flattened(config, values))
        return config.model_validate(with_default_kinds(config, written))
    except ValidationError as error:
        problems.extend(_describe(name, config, error))
        return None


def _describe(section: str, config: type[Config], error: ValidationError) -> Iterator[str]:
    found = error.errors()
    for item in found:
        keys, model, meant = _walk(config, item["loc"])
        where = ".".join([section, *keys])
        kind = item["type"]
        if kind == "extra_forbidden":
            beside = own_keys(config) if config.written_flat and len(keys) == 1 else []
            known = dict.fromkeys([*fields_of(model), *beside])
            yield f"{where}: unknown key{_suggest(keys[-1], known)}"
        elif kind == "union_tag_invalid":
            context = item.get("ctx", {})
            yield f"{where}: unknown kind {context['tag']!r}: one of {context['expected_tags']}"
        elif kind == "union_tag_not_found":
            kinds = ", ".join(kinds_of(model))
            yield f"{where}: kind is missing: one of {kinds}"
        elif kind == "missing":
            yield f"{where}: missing"
        elif kind == "too_short":
            # Pydantic does not count items that are refused: then the problem is theirs alone.
            if not any(_is_within(other["loc"], item["loc"]) for other in found):
                context = item["ctx"]
                least, given = context["min_length"], context["actual_length"]
                yield f"{where}: has {given} where at least {least} must be"
        elif kind == "secret" or (kind == "value_error" and isinstance(item["input"], dict)):
            # What was written there may be a key, or is a whole section.
            yield f"{where}: {item['msg'].removeprefix('Value error, ')}"
        elif kind in ("model_type", "model_attributes_type", "dict_type"):
            instead = _as_section(where, item["input"], meant)
            yield f"{where}: must be a section with keys of its own{instead}"
        else:
            yield f"{where}: {item['msg'].removeprefix('Value error, ')} (got {item['input']!r})"


def _is_within(location: Sequence[int | str], whole: Sequence[int | str]) -> bool:
    return len(location) > len(whole) and tuple(location[: len(whole)]) == tuple(whole)


def _as_section(where: str, given: Any, meant: Any) -> str:
    """What to write in place of a text where a section of a path is meant."""
    if isinstance(given, str) and "path" in fields_of(meant):
        return f": {where} = {{ path = {json.dumps(given, ensure_ascii=False)} }}"
    return f" (got {given!r})"


def _walk(config: type[Config], location: Sequence[int | str]) -> tuple[list[str], Any, Any]:
    """The keys a person writes to get to a location, the model or annotation around it, and what
    is meant there.

    Pydantic's locations also hold the kinds of the unions on the way; those are no keys.
    """
    keys: list[str] = []
    model: Any = config
    around: Any = config
    for part in location:
        member = (kinds_of(model) | tags_of(model)).get(part) if isinstance(part, str) else None
        if member is not None:
            model = member
            continue
        if part != getattr(model, "written_flat", None):
            keys.append(str(part))
        around, model = model, _inside(model, part)
    return keys, model if kinds_of(model) else around, model


def _inside(model: Any, part: int | str) -> Any:
    """What stands under a key of a model, or at an index of a list, without its `None`."""
    if isinstance(part, int):
        inner = get_args(model)[:1]
    else:
        field = fields_of(model).get(part)
        inner = (field.annotation,) if field else ()
    return unwrapped(inner[0]) if inner else None


def _suggest(key: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; one of {', '.join(known)}" if known else ""


def _chain_problems(present: set[str], configs: Mapping[str, Config]) -> Iterator[str]:
    """What no single section can see: stages that need each other."""
    if "ingest" not in present and (reader := _reads_data(present, configs)):
        yield f"ingest: missing; [{reader}] reads the data of [ingest]"
    if "label" in present and not {"sample", "judge"} <= present:
        yield "label: needs [sample] for completions and [judge] for verdicts"
    if "evaluate" in present and "train" not in present and _model(configs, "evaluate", "policy"):
        yield "evaluate: needs [train], or evaluate.policy"
    for name in ("sample", "train"):
        if name == "sample" and getattr(configs.get(name), "outputs", None):
            continue
        if name in present and "sft" not in present and _model(configs, name, "model"):
            yield f"{name}: needs [sft], or {name}.model"


def _reads_data(present: set[str], configs: Mapping[str, Config]) -> str | None:
    """The first stage that needs what [ingest] makes; a stage whose section is unsound needs it."""
    without: dict[str, Callable[[Any], bool]] = {
        "judge": lambda c: c.training is None,
        "sample": lambda c: bool(c.outputs),
        "label": lambda c: True,
        "evaluate": lambda c: c.brings_prompts,
        "report": lambda c: True,
    }
    for stage in BY_NAME:
        if stage in present:
            config = configs.get(stage)
            if config is None or not without.get(stage, _never)(config):
                return stage
    return None if present else "run"


def _never(config: Any) -> bool:
    return False


def _round_problems(rounds: Rounds | None, configs: Mapping[str, Config]) -> Iterator[str]:
    if rounds is None or rounds.n == 1:
        return
    missing = [name for name in ("sample", "label", "train") if name not in configs]
    if missing:
        yield f"rounds: a round samples, labels and trains; [{missing[0]}] is missing"
    if rounds.stop_when_falls and "evaluate" not in configs:
        yield "rounds.stop_when_falls: needs [evaluate], which measures the held-out win rate"


def _model(configs: Mapping[str, Config], stage: str, key: str) -> bool:
    """Whether a stage's config is sound and names no model of its own."""
    return stage in configs and getattr(configs[stage], key, None) is None
