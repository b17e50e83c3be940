"""A judge by the word that a person types: its kind, its settings, or where one was saved."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from evals.judges import JUDGE_FILE, Judge, JudgeKind, open_judge
from schemas.errors import ConfigError, MissingInputError
from schemas.stage import Runtime


def named_judge(text: str, runtime: Runtime) -> Judge:
    """Open the judge that a text names.

    Args:
        text: a kind that needs no settings (`length`), settings as JSON (`{"kind": "rule"}`), or
            the path of a judge.json or of its folder.
        runtime: how it runs.

    Raises:
        ConfigError: no such kind, or settings that cannot be.
        MissingInputError: a path, and nothing there.
    """
    if text.lstrip().startswith("{"):
        return _from_settings(text, text.encode(), runtime)
    path = Path(text)
    if path.name == JUDGE_FILE or path.is_dir():
        return open_judge(path.parent if path.name == JUDGE_FILE else path, runtime)
    if len(path.parts) > 1:
        raise MissingInputError(f"{text}: no judge.json and no folder of one")
    return _from_settings(text, f'{{"kind": "{text}"}}'.encode(), runtime)


def _from_settings(text: str, settings: bytes, runtime: Runtime) -> Judge:
    try:
        kind = TypeAdapter[JudgeKind](JudgeKind).validate_json(settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"judge {text}: {where}: {first['msg']}".replace(": :", ":")) from error
    return kind.open(None, runtime)
