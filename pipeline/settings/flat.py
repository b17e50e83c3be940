"""Sections written flat: the keys of an inner section stand beside the section's own.

`Config.written_flat` names the inner one. What earlier versions wrote has it as a section of its
own, such as [judge.judge]; that is read too, and said.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.settings.kinds import fields_of
from schemas.stage import Config

Sections = Mapping[str, type[Config]]


def own_keys(config: type[Config]) -> list[str]:
    """The keys of a section that are not those of the inner one."""
    return [name for name in fields_of(config) if name != config.written_flat]


def flattened(config: type[Config], values: Any) -> Any:
    """The values of a section as a person writes them, whoever wrote them."""
    inner = values.get(config.written_flat) if isinstance(values, Mapping) else None
    if not isinstance(inner, Mapping):
        return values
    return {k: v for k, v in values.items() if k != config.written_flat} | dict(inner)


def nested(config: type[Config], values: Mapping[str, Any]) -> dict[str, Any]:
    """The same as the config model has them."""
    flat, own = config.written_flat, own_keys(config)
    if flat is None:
        return dict(values)
    mine = {key: value for key, value in values.items() if key in own}
    if flat in values:  # no section: that is what is wrong, whatever stands beside it
        return mine | {flat: values[flat]}
    return mine | {flat: {key: value for key, value in values.items() if key not in own}}


def apply_to_inner(sections: Sections, tree: dict[str, Any], key: str, value: Any) -> bool:
    """Replace all of an inner section where that is what `key` names; whether it was."""
    section, _, rest = key.partition(".")
    config = sections.get(section)
    if config is None or rest != config.written_flat or not isinstance(value, Mapping):
        return False
    around = tree.get(section, {})
    own = {k: v for k, v in around.items() if k in own_keys(config)}
    tree[section] = own | dict(value)
    return True


def as_written_now(sections: Sections, key: str) -> str:
    """A key's path without the inner section's name, which earlier versions had in it."""
    section, *rest = key.split(".")
    config = sections.get(section)
    if config and len(rest) > 1 and rest[0] == config.written_flat:
        return ".".join([section, *rest[1:]])
    return key


def notes_on(
    sections: Sections, tree: Mapping[str, Any], overrides: Sequence[str]
) -> Iterator[str]:
    """What to write in place of what earlier versions had."""
    for name, config in sections.items():
        inner, values = config.written_flat, tree.get(name)
        if inner and isinstance(values, Mapping) and isinstance(values.get(inner), Mapping):
            yield (
                f"[{name}.{inner}]: its keys stand in [{name}] itself now; take the second "
                f"{inner!r} out of its heads"
            )
    for key in (override.partition("=")[0].strip() for override in overrides):
        if (now := as_written_now(sections, key)) != key:
            yield f"--set {key}: is {now} now"
