"""Servers that a later stage will ask: their keys, whether they are there, whether they know the
model."""

import os
from collections.abc import Collection, Iterator

from evals.judges.kinds.llm import LlmJudge
from evals.judges.kinds.panel import PanelJudge
from evals.judges.openai.config import JudgeServer
from evals.models.contenders import ServedModel
from evals.models.samplers import ServerSampler
from pipeline.preflight.places import sections_of, values_of
from pipeline.recipe import Recipe
from schemas.errors import PipelineError, UnreachableError

# Whose settings other stages use.
_USERS = {"judge": ("judge", "label", "evaluate")}


def missing_keys(recipe: Recipe) -> Iterator[str]:
    """Variables of keys that are not set, of the truth's and the contenders' servers too."""
    for where, variable in values_of(recipe, "api_key_env"):
        if variable and not os.environ.get(variable, "").strip():
            yield f"{where}: {variable} is not set in the environment; set it to the key"


def server_problems(recipe: Recipe, stages: Collection[str]) -> tuple[list[str], list[str]]:
    """Servers that `stages` will ask and that are not there, refuse the key or lack the model.

    Each is asked once, for seconds. Nothing is paid for, but a token where a server does not list
    its model. Apart from them, those that a panel goes on without.
    """
    failed: dict[str, PipelineError | None] = {}
    told: dict[str, str] = {}
    for where, server in _servers(recipe, stages):
        key = f"{server.base_url} {server.model}"
        if key not in failed:
            failed[key] = _failure(server, recipe)
        if failed[key] is not None:
            told[where] = key
    away = {w for w, key in told.items() if _is_nobody_there(failed[key])}
    spared = dict(_spared(recipe, away))
    warnings = [f"{where}: {failed[told[where]]}; {why}" for where, why in spared.items()]
    first = {key: where for where, key in reversed(told.items()) if where not in spared}
    problems = [f"{where}: {failed[key]}" for key, where in first.items()]
    return problems[::-1], warnings


def _failure(server: JudgeServer, recipe: Recipe) -> PipelineError | None:
    try:
        _check(server, recipe)
    except PipelineError as error:
        return error
    return None


def _is_nobody_there(error: PipelineError | None) -> bool:
    return isinstance(error, UnreachableError) and error.status is None


def _spared(recipe: Recipe, away: Collection[str]) -> Iterator[tuple[str, str]]:
    """Places whose server is away, of panels of which enough members are left."""
    for where, panel in sections_of(recipe, PanelJudge):
        places = [f"{where}.members.{number}." for number in range(len(panel.members))]
        lost = [one for place in places for one in away if one.startswith(place)]
        left = len(places) - len(lost)
        if left >= panel.quorum:
            for one in sorted(lost):
                yield (
                    one,
                    f"the panel goes on with {left} of {len(places)} members, of which "
                    f"{panel.quorum} are enough",
                )


def _check(server: JudgeServer, recipe: Recipe) -> None:
    # httpx and asyncio are only loaded where there is a server to ask.
    from evals.judges.openai.reachable import check_judge_servers

    check_judge_servers(LlmJudge(server=server), recipe.runtime)


def _servers(recipe: Recipe, stages: Collection[str]) -> Iterator[tuple[str, JudgeServer]]:
    """Every server whose key is there, with each place where it is named."""
    for where, server in _named(recipe):
        stage = where.partition(".")[0]
        is_used = not set(stages).isdisjoint(_USERS.get(stage, (stage,)))
        variable = server.api_key_env
        has_key = variable is None or bool(os.environ.get(variable, "").strip())
        if is_used and has_key:
            yield where, server


def _named(recipe: Recipe) -> Iterator[tuple[str, JudgeServer]]:
    yield from sections_of(recipe, JudgeServer)
    for where, served in sections_of(recipe, ServedModel):
        yield (
            where,
            JudgeServer(
                base_url=served.server,
                model=served.model,
                api_key_env=served.api_key_env,
                token_limit_name=served.token_limit_name,
                extra=served.extra,
            ),
        )
    for where, sampler in sections_of(recipe, ServerSampler):
        if sampler.model is not None:
            yield (
                where,
                JudgeServer(
                    base_url=sampler.base_url, model=sampler.model, api_key_env=sampler.api_key_env
                ),
            )
