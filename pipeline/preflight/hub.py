"""Hub ids of models looked up before anything is paid for."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from evals.models.checkpoints import ModelSource
from evals.models.hub import commit_of
from pipeline.preflight.places import sections_of
from pipeline.recipe import Recipe
from schemas.errors import PipelineError
from schemas.files import first_line

_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_SECONDS = 10.0
_YES = {"1", "ON", "YES", "TRUE"}


def hub_problems(recipe: Recipe, *, ask: bool = True) -> tuple[list[str], list[str]]:
    """Models that the hub does not have or does not give, and those that cannot be looked up here.

    What lies on this machine, or was downloaded before, is not asked for. The first time that the
    hub does not answer is the last time it is asked.
    """
    problems, unknown = [], []
    for where, source in _asked_for(recipe):
        said = None if ask else "nobody was asked"
        if ask:
            said, answered = _refusal(source)
            if said and answered:
                problems.append(f"{where}: {source.path}: {said}")
                continue
            ask = said is None
        if said:
            unknown.append(
                f"{where}: {source.path} is no folder here and cannot be looked up here ({said}); "
                "a stage will fail if the hub does not have it"
            )
    return problems, unknown


def _asked_for(recipe: Recipe) -> Iterator[tuple[str, ModelSource]]:
    """Every model that has to come from a hub, once, an adapter's base too."""
    seen: set[tuple[str, str | None]] = set()
    for where, named in sections_of(recipe, ModelSource):
        for source in _with_base(named):
            key = (source.path, source.revision)
            if key in seen or Path(source.path).expanduser().exists():
                continue
            seen.add(key)
            if _ID.fullmatch(source.path) and not commit_of(*key, ask=False):
                yield where, source


def _with_base(source: ModelSource) -> list[ModelSource]:
    try:
        base = source.base
    except PipelineError:  # told by whoever looks at files
        base = None
    return [source, base] if base is not None else [source]


def _refusal(source: ModelSource) -> tuple[str | None, bool]:
    """Why the hub does not give a model, None where it does; and whether it was the hub that said
    so.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in _YES:
        return "HF_HUB_OFFLINE is set", False
    # Loaded here: most recipes have nothing to ask.
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    refused = "the hub does not have it, or shows it to nobody without a token; correct the id"
    answers: tuple[tuple[type[Exception], Callable[[], str]], ...] = (
        (GatedRepoError, lambda: "its licence must be accepted on the hub, and HF_TOKEN be set"),
        (RepositoryNotFoundError, lambda: refused),
        (RevisionNotFoundError, lambda: f"has no revision {source.revision!r}"),
        (HFValidationError, lambda: "is no id of a hub; correct it"),
    )
    try:
        HfApi().model_info(source.path, revision=source.revision, timeout=_SECONDS)
    except Exception as error:  # whatever the network, a proxy or the hub raises
        for kind, words in answers:
            if isinstance(error, kind):
                return words(), True
        return f"{type(error).__name__}: {first_line(error)}", False
    return None, True
