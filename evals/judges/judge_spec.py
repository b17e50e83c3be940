"""A judge by the word that a person types: its kind, its settings, or where one was saved."""

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from evals.judges import JUDGE_FILE, Judge, JudgeKind, open_judge
from evals.models.checkpoints import ModelSource
from evals.models.contender_spec import contender_source, served_model
from schemas.errors import ConfigError, DataError, MissingInputError
from schemas.stage import Runtime


def named_judge(text: str, runtime: Runtime) -> Judge:
    """Open the judge that a text names; see `judge_settings` for the texts.

    Raises:
        ConfigError: no such kind, or settings that cannot be.
        MissingInputError: a path, and nothing there.
    """
    folder = saved_judge(text)
    return open_judge(folder, runtime) if folder else judge_settings(text).open(None, runtime)


def saved_judge(text: str) -> Path | None:
    """The folder of the judge.json that a text means; None where it means something else."""
    path = Path(text).expanduser()
    folder = path.parent if path.name == JUDGE_FILE else path
    return folder if (folder / JUDGE_FILE).is_file() else None


def judge_settings(text: str, api_key_env: str | None = None) -> JudgeKind:
    """The settings of the judge that a text names.

    Args:
        text: a kind that needs no settings (`length`), a rule (`rule:food`), settings as JSON
            (`{"kind": "rule"}`), a judge.json or its folder, a model's folder or hub id (a
            sequence classifier judges as a reward model, others by a rubric), or a model behind a
            server, `openai:MODEL@URL`.
        api_key_env: where a server's key is; None takes OPENAI_API_KEY for OpenAI's own address.

    Raises:
        ConfigError: no such kind, or settings that cannot be.
        MissingInputError: a path, and nothing there.
    """
    if text.lstrip().startswith("{"):
        return _from_settings(text, text.encode())
    folder = saved_judge(text)
    if folder is not None:
        return _from_folder(folder)
    if text.startswith("openai:"):
        served = served_model(text, api_key_env)
        server = {"base_url": served.server, "model": served.model}
        key = {"api_key_env": served.api_key_env} if served.api_key_env else {}
        return _from_settings(text, json.dumps({"kind": "llm", "server": server | key}).encode())
    kind, colon, rest = text.partition(":")
    if kind == "rule" and colon:
        return _from_settings(text, json.dumps({"kind": "rule", "rule": rest}).encode())
    if "/" not in text and not Path(text).expanduser().exists():
        return _from_settings(text, json.dumps({"kind": text}).encode())
    try:
        source = contender_source(text)
    except MissingInputError:
        raise MissingInputError(
            f"{text}: no judge.json or folder of one, no model's folder, and no hub id like "
            "owner/name; correct the path, or write openai:MODEL@URL for a server"
        ) from None
    if not isinstance(source, ModelSource):
        raise ConfigError(f"judge {text}: is a file of outputs; name a model, or a kind of judge")
    source.files()  # a folder without a model is refused here
    return _of_model(text, source)


def _of_model(text: str, source: ModelSource) -> JudgeKind:
    """A sequence classifier is a reward model; any other model is given a rubric."""
    config = Path(source.path) / "config.json"
    architectures = json.loads(config.read_text()).get("architectures") if config.is_file() else []
    scores = any("SequenceClassification" in str(one) for one in architectures or [])
    settings = {
        "kind": "reward_model" if scores else "llm",
        "model": source.model_dump(exclude_none=True),
    }
    return _from_settings(text, json.dumps(settings).encode())


def _from_folder(folder: Path) -> JudgeKind:
    """A saved judge's settings; one that was trained there names its model's folder."""
    try:
        record = json.loads((folder / JUDGE_FILE).read_text())
        settings = record["judge"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / JUDGE_FILE}: not a judge ({error})") from error
    if settings.get("kind") == "preference_model" and settings.get("model") is None:
        settings = settings | {"model": {"path": str(folder / "model")}}
    return _from_settings(str(folder), json.dumps(settings).encode())


def _from_settings(text: str, settings: bytes) -> JudgeKind:
    try:
        return TypeAdapter[JudgeKind](JudgeKind).validate_json(settings)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "union_tag_invalid":
            kinds = str(first["ctx"]["expected_tags"]).replace("'", "")
            tag = first["ctx"]["tag"]
            raise ConfigError(f"judge {text}: no kind {tag}; one of {kinds}, {_WAYS}") from error
        where = ".".join(str(part) for part in first["loc"])
        hint = "" if "/" in text or "{" in text else f"; {_WAYS}"
        raise ConfigError(
            f"judge {text}: {where}: {first['msg']}{hint}".replace(": :", ":")
        ) from error


_WAYS = "or a model's folder, owner/name on a hub, or openai:MODEL@URL"
