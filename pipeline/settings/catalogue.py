"""Every setting of a section, walked off its config model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.recipe import Rounds
from pipeline.settings.kinds import default_kind
from pipeline.settings.legal import legal_words
from pipeline.stage_registry import STAGES
from schemas.stage import Config, Runtime

SECTIONS: Mapping[str, type[Config]] = {
    **{stage.name: stage.config for stage in STAGES},
    "rounds": Rounds,
    "runtime": Runtime,
}
"""All sections of a recipe, by name."""


@dataclass(frozen=True)
class Setting:
    """One key of a recipe.

    Attributes:
        key: its path in its section, such as `training.lora.rank`; without numbers of lists.
        legal: its legal values, in words.
        default: as a recipe writes it; None where it must be given, "" where it is a section.
        meaning: what it is for.
        field: where it is declared.
        kinds: the kinds of the section around that have it; empty where all do.
        all_kinds: all kinds of that section.
        members: the models of a section below this key, by kind, or by "" where there are none.
    """

    key: str
    legal: str
    default: str | None
    meaning: str
    field: FieldInfo
    kinds: tuple[str, ...] = ()
    all_kinds: tuple[str, ...] = ()
    members: Mapping[str, type[BaseModel]] | None = None

    @property
    def group(self) -> str:
        """The key of the section that it is in; "" for the stage's own."""
        return self.key.rpartition(".")[0]


def settings_of(model: type[BaseModel]) -> list[Setting]:
    """Every setting of a section and of all sections in it, in the order of declaration."""
    return list(_walk(model, ""))


def _walk(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        if name == "kind":  # said once, by the union around it
            continue
        if name == getattr(model, "written_flat", None):
            yield from _of_kinds(prefix, field, _kinds_in(field))
        else:
            yield from _of_field(f"{prefix}{name}", field)


def _kinds_in(field: FieldInfo) -> dict[str, type[BaseModel]]:
    models = models_in(field.annotation)
    return {m.model_fields["kind"].default: m for m in models if "kind" in m.model_fields}


def _of_field(key: str, field: FieldInfo) -> Iterator[Setting]:
    models, kinds = models_in(field.annotation), _kinds_in(field)
    if not kinds:
        members = {str(number or ""): m for number, m in enumerate(models)} or None
        yield _setting(key, field, members)
        yield from _once({m.__name__: m for m in models}, f"{key}.", tell=False)
        return
    yield _setting(key, field, kinds)
    yield from _of_kinds(f"{key}.", field, kinds)


def _of_kinds(
    prefix: str, field: FieldInfo, kinds: Mapping[str, type[BaseModel]]
) -> Iterator[Setting]:
    meaning = "which of them" if prefix else field.description or ""
    yield Setting(f"{prefix}kind", " | ".join(kinds), default_kind(field), meaning, field)
    yield from _once(kinds, prefix, tell=True)


def _once(members: Mapping[str, type[BaseModel]], prefix: str, tell: bool) -> Iterator[Setting]:
    """The settings of all members, each once, with the kinds that have it where not all do."""
    found: dict[tuple[str, ...], tuple[Setting, list[str]]] = {}
    for kind, member in members.items():
        for one in _walk(member, prefix):
            same = (one.key, one.legal, str(one.default), one.meaning, *one.kinds)
            found.setdefault(same, (one, []))[1].append(kind)
    for one, kinds in found.values():
        some = tell and len(kinds) < len(members) and not one.kinds
        yield replace(one, kinds=tuple(kinds), all_kinds=tuple(members)) if some else one


def _setting(
    key: str, field: FieldInfo, members: Mapping[str, type[BaseModel]] | None = None
) -> Setting:
    legal = legal_words(field.annotation, field.metadata)
    return Setting(
        key, legal, _default(field, members), field.description or "", field, members=members
    )


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The config models inside an annotation, in order."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def _default(field: FieldInfo, members: Mapping[str, Any] | None) -> str | None:
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    return "" if members and isinstance(value, BaseModel) else as_written(value)


def as_written(value: Any) -> str:
    """A default as a person would type it after `--set key=`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_written, value))}]"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {as_written(v)}" for k, v in value.items()) + "}"
    return str(value) or '""'
