"""One setting explained: default, meaning, legal values, and how it is written."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.settings.catalogue import SECTIONS, Setting, settings_of
from pipeline.settings.flat import as_written_now
from pipeline.settings.legal import example_value
from schemas.errors import ConfigError

_NEAR = 5


@dataclass(frozen=True)
class Explanation:
    """A setting or a section as a person asks for it.

    Attributes:
        key: as in a recipe, such as `train.loss.beta`.
        settings: all declarations of the key, several where kinds differ; none of a whole section.
        inside: the settings of the section that it is.
        toml: an example in a recipe.
        override: the same as an option.
    """

    key: str
    meaning: str
    settings: Sequence[Setting]
    inside: Sequence[Setting]
    toml: str
    override: str


def explain(key: str) -> Explanation:
    """What is known of a key; numbers of lists may stand in it.

    Raises:
        ConfigError: there is no such setting; the nearest ones are named.
    """
    named = as_written_now(SECTIONS, key.strip().strip(".[]"))
    parts = [part for part in named.split(".") if not part.isdigit()]
    section, inner = parts[0], ".".join(parts[1:])
    if section not in SECTIONS:
        raise ConfigError(f"{key}: no such setting; {_hint('.'.join(parts))}")
    found = settings_of(SECTIONS[section])
    if not inner:
        return _of_section(section, found)
    same = [one for one in found if one.key == inner]
    if not same:
        raise ConfigError(f"{key}: no such setting; {_hint('.'.join(parts))}")
    inside = [one for one in found if one.key.startswith(f"{inner}.")] if same[0].members else []
    chosen = next((one for one in inside if one.key == f"{inner}.kind"), same[0])
    toml, override = _example(section, chosen, found)
    return Explanation(f"{section}.{inner}", same[0].meaning, same, inside, toml, override)


def _of_section(section: str, found: Sequence[Setting]) -> Explanation:
    meaning = " ".join((SECTIONS[section].__doc__ or "").split())
    first = next((one for one in found if one.default is None), found[0])
    return Explanation(section, meaning, (), found, *_example(section, first, found))


def _hint(key: str) -> str:
    """The settings that are spelt alike, or end alike."""
    known = [f"{name}.{one.key}" for name, model in SECTIONS.items() for one in settings_of(model)]
    last = key.rpartition(".")[2]
    ends = [one for one in dict.fromkeys(known) if one.rpartition(".")[2] == last]
    near = ends or difflib.get_close_matches(key, list(SECTIONS) + known, n=_NEAR)
    if not near:
        return f"the sections are {', '.join(SECTIONS)}"
    more = f", and {len(near) - _NEAR} more" if len(near) > _NEAR else ""
    return f"did you mean {', '.join(near[:_NEAR])}{more}?"


def _example(section: str, one: Setting, found: Sequence[Setting]) -> tuple[str, str]:
    """A setting in TOML under its head, and as `--set` has it."""
    above = {s.key: s for s in found if s.members}
    head, path, in_list = section, section, False
    for end in range(1, len(one.key.split("."))):
        parent = ".".join(one.key.split(".")[:end])
        name = parent.rpartition(".")[2]
        legal = above[parent].legal if parent in above else ""
        in_list = legal.startswith("list")
        named = ".NAME" if "by name" in legal else ""
        head, path = f"{head}.{name}{named}", f"{path}.{name}{'.0' * in_list}{named}"
    last = one.key.rpartition(".")[2]
    value = _value(one)
    lines = [f"[[{head}]]" if in_list else f"[{head}]"]
    if one.kinds and last != "kind":
        lines.append(f'kind = "{one.kinds[0]}"')
    lines.append(f"{last} = {value}")
    plain = value.strip('"') if value.startswith('"') else f"'{value}'" if " " in value else value
    return "\n".join(lines), f"--set {path}.{last}={plain}"


def _value(one: Setting) -> str:
    if one.key.rpartition(".")[2] == "kind":
        kinds = one.legal.split(" | ")
        return f'"{next((kind for kind in kinds if kind != one.default), kinds[0])}"'
    field = one.field
    if field.examples:
        return str(field.examples[0])
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    if isinstance(default, str) and default and " | " not in one.legal:
        return f'"{default}"'
    return example_value(field.annotation, default, field.metadata)
