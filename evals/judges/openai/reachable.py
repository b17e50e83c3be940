"""Whether a server is there, takes the key and has the model, before anything is paid for."""

import asyncio
from collections.abc import Mapping
from typing import Any

from evals.judges.kinds.llm import LlmJudge
from evals.judges.kinds.panel import PanelJudge
from evals.judges.openai.config import JudgeServer
from evals.models.http.addresses import key_of
from evals.models.http.transport import CallFailed, Transport
from schemas.errors import BackendError, ConfigError, UnreachableError
from schemas.stage import Config, Runtime

_KNOCKS = 3
_SECONDS_BETWEEN = 0.5
_NAMES_SHOWN = 8


def check_judge_servers(kind: Config, runtime: Runtime) -> None:
    """Check every server that a judge of these settings will ask; judges without one pass.

    Nothing is paid for, but where a server does not list the model: then one token is asked for.

    Raises:
        ConfigError: the environment has no key, or the server does not know the model.
        UnreachableError: nobody answers, or the key is not taken.
    """
    for server in judge_servers(kind):
        key = key_of(server.base_url, server.api_key_env)
        asyncio.run(_check(server, key, runtime))


def judge_servers(kind: Config) -> list[JudgeServer]:
    """The servers that a judge asks, a panel's members' included."""
    if isinstance(kind, PanelJudge):
        return [server for member in kind.members for server in judge_servers(member)]
    server = kind.server if isinstance(kind, LlmJudge) else None
    return [server] if server else []


async def refuse_nobody(transport: Transport) -> None:
    """Knock a few times.

    Raises:
        UnreachableError: no connection can be made. Whatever else comes back is an answer.
    """
    for knock in range(_KNOCKS):
        try:
            await transport.look("models")
        except CallFailed as failure:
            if failure.reason != "not_there":
                return
            if knock + 1 == _KNOCKS:
                raise UnreachableError(
                    f"{transport.base_url}: nobody is there ({failure.detail}); start the server, "
                    "or correct its address (base_url), then run the same command again: what was "
                    "answered is kept"
                ) from None
        except BackendError:  # it refuses to list its models; that is an answer, too
            return
        else:
            return
        await asyncio.sleep(_SECONDS_BETWEEN * 2**knock)


async def _check(server: JudgeServer, key: str | None, runtime: Runtime) -> None:
    transport = Transport(server.base_url, key, runtime.judge_server)
    try:
        await refuse_nobody(transport)
        await _refuse_other_models(transport, server)
    finally:
        await transport.close()


async def _refuse_other_models(transport: Transport, server: JudgeServer) -> None:
    """Raises what `check_judge_servers` says of keys and models."""
    try:
        names = _names(await transport.look("models"))
    except UnreachableError as error:
        if error.status in (401, 403):
            raise
        return  # a server that does not list its models
    except CallFailed:
        return
    if not names or server.model in names or await _answers(transport, server):
        return
    shown = ", ".join(sorted(names)[:_NAMES_SHOWN])
    raise ConfigError(
        f"{server.base_url}: has no model {server.model!r}, but {shown}"
        f"{', ...' if len(names) > _NAMES_SHOWN else ''}; correct its model"
    )


def _names(listed: Any) -> set[str]:
    models = listed.get("data") if isinstance(listed, Mapping) else None
    found = models if isinstance(models, list) else []
    return {str(m["id"]) for m in found if isinstance(m, Mapping) and "id" in m}


async def _answers(transport: Transport, server: JudgeServer) -> bool:
    """Whether the model answers though it is not listed, as deployments and aliases do."""
    hello = [{"role": "user", "content": "Hello"}]
    body = {"model": server.model, "messages": hello, server.token_limit_name: 1}
    try:
        await transport.ask("chat/completions", body | server.extra)
    except UnreachableError as error:
        return error.status not in (404, 410)
    except CallFailed as failure:
        return failure.reason != "bad_request"
    return True
