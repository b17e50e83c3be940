"""Who takes part in a comparison: the baseline, the policy and all others, by unique names."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.files.outputs.outputs import read_outputs
from evals.files.standards.sets import StandardSet
from evals.models.contender_spec import Source, named_contender
from evals.models.contenders import OutputsFile
from schemas.errors import ConfigError

POLICY, BASELINE = "policy", "baseline"


@dataclass(frozen=True)
class Entrant:
    """A contender: its name for people, its role in evaluate, and what it is."""

    name: str
    role: str
    source: Source


def entrants(
    texts: Sequence[str],
    baseline: str | None,
    api_key_env: str | None,
    chat_template: str | None,
    standard: StandardSet | None = None,
) -> list[Entrant]:
    """The baseline first, then the policy, then the others in the order given.

    Args:
        texts: as `named_contender` reads them, or names of models whose answers a standard set
            has; at least two, or one beside a standard set.
        baseline: the name or the text of one of them, or of a model whose answers the set has;
            None takes the first, or the one that the set was published with.
        api_key_env: where a server's key is.
        chat_template: of base models.
        standard: the set whose prompts are answered.

    Raises:
        ConfigError: fewer than two, two of one name, or a baseline that is none of them.
        MissingInputError: one of them is not there.
    """
    if len(texts) < 2 and standard is None:
        raise ConfigError("compare: give at least two models or files of outputs")
    named = [_named(text, api_key_env, chat_template, standard) for text in texts]
    if standard is not None and (baseline is None or _is_published(baseline, named, standard)):
        # The published one is among the contenders, or joins them.
        name, source = _published_baseline(baseline, standard)
        if not any(mine == source for _, mine in named):
            named, texts = [(name, source), *named], [name, *texts]
        baseline = next(known for known, mine in named if mine == source)
    names = [name for name, _ in named]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(
            f"compare: two contenders are called {repeated!r}; write NAME=... before one of them"
        )
    first = _place(names, texts, baseline)
    ordered = [named[first], *named[:first], *named[first + 1 :]]
    roles = [BASELINE, POLICY, *_other_roles([name for name, _ in ordered[2:]])]
    return [
        Entrant(name, role, source) for role, (name, source) in zip(roles, ordered, strict=True)
    ]


def _named(
    text: str, api_key_env: str | None, chat_template: str | None, standard: StandardSet | None
) -> tuple[str, Source]:
    """A contender; a name of a model alone may be one whose answers the set has."""
    published = standard.published(text) if standard and not Path(text).exists() else None
    if published is not None:
        return text, published
    return named_contender(text, api_key_env, chat_template)


def _is_published(
    baseline: str, named: Sequence[tuple[str, Source]], standard: StandardSet
) -> bool:
    return baseline not in [name for name, _ in named] and standard.published(baseline) is not None


def _published_baseline(baseline: str | None, standard: StandardSet) -> tuple[str, OutputsFile]:
    found = standard.published(baseline) if baseline else None
    return (baseline, found) if baseline and found else standard.baseline()


def _place(names: Sequence[str], texts: Sequence[str], baseline: str | None) -> int:
    if baseline is None:
        return 0
    for listed in (names, texts):
        if baseline in listed:
            return list(listed).index(baseline)
    raise ConfigError(f"--baseline {baseline}: no such contender; one of {', '.join(names)}")


def _other_roles(names: Sequence[str]) -> list[str]:
    """Names that can be those of files, each once."""
    roles: list[str] = []
    for number, name in enumerate(names, 3):
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or f"model-{number}"
        taken = slug in (POLICY, BASELINE, "judge") or slug in roles
        roles.append(f"{slug}-{number}" if taken else slug)
    return roles


def samples(entered: Sequence[Entrant], wanted: int | None) -> int:
    """Completions a prompt: as wanted, else the most that any file of outputs brings."""
    if wanted is not None:
        return wanted
    most = 1
    for entrant in entered:
        if isinstance(entrant.source, OutputsFile):
            source = entrant.source
            counts: dict[str, int] = {}
            for output in read_outputs(source.files()[0], source.generator):
                key = output.prompts[0].prompt_id if output.prompts else f"key:{output.key}"
                counts[key] = counts.get(key, 0) + 1
            most = max(most, *counts.values())
    return most


def recipe_tree(
    entered: Sequence[Entrant],
    *,
    name: str,
    judge: Mapping[str, Any],
    prompts: str | None,
    evaluate: Mapping[str, Any],
    runtime: Mapping[str, Any],
    title: str,
) -> dict[str, Any]:
    """The recipe of a comparison: a judge, an evaluation and a page."""
    by_role = {entrant.role: _settings(entrant.source) for entrant in entered}
    others = {r: s for r, s in by_role.items() if r not in (POLICY, BASELINE)}
    return {
        "name": name,
        "description": title,
        "runtime": dict(runtime),
        "judge": dict(judge),
        "evaluate": {
            "prompts": prompts,
            **evaluate,
            "policy": by_role[POLICY],
            "baseline": by_role[BASELINE],
            **({"compare_with": others} if others else {}),
            "names": {entrant.role: entrant.name for entrant in entered},
        },
        "report": {"title": title},
    }


def _settings(source: Source) -> dict[str, Any]:
    return source.model_dump(mode="json", exclude_defaults=True)
