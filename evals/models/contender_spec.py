"""A contender by the words that a person types: `[NAME=]FILE`, a model, or a served model."""

import re
from pathlib import Path

from evals.files.opening.places import is_remote, is_saved_data
from evals.models.checkpoints import ModelSource
from evals.models.contenders import OutputsFile, ServedModel, contender_name
from schemas.errors import ConfigError, MissingInputError

OPENAI_ADDRESS = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"

_NAMED = re.compile(r"(?P<name>[^=/\\:@#]+)=(?P<rest>.+)", re.DOTALL)
_SERVED = "openai:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w.-]+)?")

Source = ModelSource | OutputsFile | ServedModel


def named_contender(
    text: str, api_key_env: str | None = None, chat_template: str | None = None
) -> tuple[str, Source]:
    """The name and the source that a text means.

    Args:
        text: a model's folder (an adapter's too), a hub id (`owner/name`, `@revision` behind it), a
            file of outputs (`#MODEL` behind one of several models), or `openai:MODEL@URL`; with
            `NAME=` before it for another name.
        api_key_env: where a server's key is; None takes OPENAI_API_KEY for OpenAI's own address.
        chat_template: of a base model.

    Raises:
        MissingInputError: nothing is there.
        ConfigError: the text is none of these.
    """
    named = _NAMED.fullmatch(text) if not Path(text).exists() else None
    source = contender_source(named["rest"] if named else text, api_key_env, chat_template)
    return (named["name"].strip() if named else contender_name(source)), source


def contender_source(
    text: str, api_key_env: str | None = None, chat_template: str | None = None
) -> Source:
    """What a text means, without a name. Raises as `named_contender`."""
    if text.startswith(_SERVED):
        return served_model(text, api_key_env)
    path = Path(text).expanduser()
    if path.is_dir() and not is_saved_data(path):
        return ModelSource(path=str(path), chat_template=chat_template)
    if path.exists():
        return OutputsFile(outputs=str(path))
    if is_remote(text):
        address, _, generator = text.partition("#")
        return OutputsFile(outputs=address, generator=generator or None)
    file, mark, generator = text.rpartition("#")
    if mark and Path(file).expanduser().is_file():
        return OutputsFile(outputs=str(Path(file).expanduser()), generator=generator)
    if _HUB_ID.fullmatch(text) and not path.suffix.lower().startswith((".json", ".csv", ".parq")):
        name, _, revision = text.partition("@")
        return ModelSource(path=name, revision=revision or None, chat_template=chat_template)
    raise MissingInputError(
        f"{text}: no such file or folder, and no hub id like owner/name; "
        "a model behind a server is written openai:MODEL@http://HOST:PORT/v1"
    )


def served_model(text: str, api_key_env: str | None = None) -> ServedModel:
    """The model of `openai:MODEL@URL`; without @URL, at OpenAI itself. Raises ConfigError."""
    model, at, url = text.removeprefix(_SERVED).rpartition("@")
    if not at:
        model, url = url, OPENAI_ADDRESS
    if not model or not url.startswith(("http://", "https://")):
        raise ConfigError(
            f"{text}: write openai:MODEL@URL, as in openai:my-model@http://127.0.0.1:8000/v1"
        )
    # The key is OpenAI's, so nobody else is sent it unasked.
    key = api_key_env or (OPENAI_KEY if url.rstrip("/") == OPENAI_ADDRESS else None)
    try:
        return ServedModel(server=url, model=model, api_key_env=key)
    except ValueError as error:
        detail = str(error).splitlines()[2].strip() if "\n" in str(error) else str(error)
        raise ConfigError(f"{text}: {detail}") from None
