"""From settings to a judge that is ready to call its server."""

import os
from pathlib import Path

from evals.judges.kinds.llm import LlmJudge
from evals.judges.openai.judge import ServedJudge
from evals.judges.openai.session import Question
from evals.models.http.addresses import key_of
from schemas.ids import content_id
from schemas.stage import Runtime

_LABEL_TOKENS, _REPLY_TOKENS = 16, 1024


def open_served(name: str, kind: LlmJudge, folder: Path | None, runtime: Runtime) -> ServedJudge:
    """A judge behind the server that the settings name; nothing is asked yet.

    Raises:
        ConfigError: the environment has no key under the name that the settings give.
    """
    server = kind.server
    assert server is not None  # the validator's
    settings = kind.model_dump_json(exclude={"model": True, "server": {"api_key_env"}})
    question = Question(
        server=server,
        chat=kind.chat,
        reminder=kind.reminder,
        min_label_mass=kind.min_label_mass,
        max_tokens=server.max_tokens
        or (_LABEL_TOKENS if kind.answer == "label" else _REPLY_TOKENS),
        by_logprobs=kind.answer == "label" and server.logprobs != "none",
        reading=kind.reading,
        thinking_tokens=0 if server.max_tokens else kind.thinking_tokens,
    )
    return ServedJudge(
        name,
        content_id("judge", name, kind.layout, kind.reminder, settings),
        question,
        key_of(server.base_url, server.api_key_env),
        _answers_folder(folder, runtime),
        runtime.judge_server,
        kind.with_reference,
    )


def _answers_folder(folder: Path | None, runtime: Runtime) -> Path:
    """Where answers are kept: as the runtime says, else beside the judge stage's directory."""
    if runtime.judge_server.cache is not None:
        return Path(runtime.judge_server.cache).expanduser()
    if folder is not None:
        return folder.absolute().parent / "judge-answers"
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "prefline" / "judge-answers"
