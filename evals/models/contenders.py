"""Who can take part in a comparison: a model, a server that has one, or a file of outputs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, JsonValue, Tag

from evals.files.opening.one_file import one_file
from evals.models.checkpoints import ModelSource, model_fingerprint
from evals.models.http.addresses import Address, KeyVariable
from schemas.errors import MissingInputError
from schemas.ids import content_id, file_sha256
from schemas.stage import Config


def existing_file(text: str, what: str) -> Path:
    """The file of a path. Raises MissingInputError where it is not there."""
    path = Path(text).expanduser()
    if not path.is_file():
        raise MissingInputError(f"{text}: no such {what}; correct its path")
    return path


class OutputsFile(Config):
    """What somebody has let a model write: no engine is needed, and no benchmark can be run."""

    outputs: str = Field(
        description="in place of path: a file of outputs (JSONL, JSON, CSV, Parquet), as "
        "AlpacaEval, Arena-Hard, MT-Bench or we write them"
    )
    generator: str | None = Field(
        None, description="whose outputs, where the file holds those of several models"
    )

    by_category: dict[str, str] = Field(
        {},
        description="files of outputs for the prompts of some categories, in place of that one",
    )

    def files(self) -> list[Path]:
        """The file, and those of categories. Raises MissingInputError where one is not there."""
        named = (self.outputs, *self.by_category.values())
        return [one_file(name, "file of outputs") for name in named]


class ServedModel(Config):
    """A model behind an OpenAI-compatible server, which renders the conversation itself."""

    server: Address = Field(
        description="in place of path: address of an OpenAI-compatible server, up to and with /v1"
    )
    model: str = Field(description="the model's name there; a dated one, where there is one")
    api_key_env: KeyVariable | None = Field(
        None, description="environment variable that holds the key; null sends none"
    )

    token_limit_name: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="what the server calls the limit"
    )
    extra: dict[str, JsonValue] = Field(
        {}, description='further fields of every request, like {reasoning_effort = "low"}'
    )

    def files(self) -> list[Path]:
        """None: nothing of it lies here."""
        return []


def _tag(value: Any) -> Literal["model", "outputs", "server"]:
    """By the one key that each kind has alone."""
    keys = value if isinstance(value, Mapping) else type(value).model_fields
    if "outputs" in keys:
        return "outputs"
    return "server" if "server" in keys else "model"


def _discriminator(value: Any) -> str | None:
    return _tag(value) if isinstance(value, Mapping | Config) else "model"


ContenderSource = Annotated[
    Annotated[ModelSource, Tag("model")]
    | Annotated[OutputsFile, Tag("outputs")]
    | Annotated[ServedModel, Tag("server")],
    Discriminator(_discriminator),
]
"""A model by `path`, a file by `outputs`, or a served model by `server` and `model`."""


def contender_fingerprint(source: ModelSource | OutputsFile | ServedModel) -> str:
    """32 hex digits that name what writes: weights, the file's content, or server and model."""
    if isinstance(source, OutputsFile):
        first, *further = (file_sha256(path) for path in source.files())
        more = [x for pair in zip(source.by_category, further, strict=True) for x in pair]
        return content_id("outputs", first, source.generator or "", *more)
    if isinstance(source, ServedModel):
        return content_id("served-model", source.model_dump_json(exclude={"api_key_env"}))
    return model_fingerprint(source)


def contender_name(source: ModelSource | OutputsFile | ServedModel) -> str:
    """What people call it: the file's stem, the folder's or hub id's last part, the served name."""
    if isinstance(source, OutputsFile):
        return source.generator or Path(source.outputs).name.partition(".")[0]
    if isinstance(source, ServedModel):
        return source.model.rstrip("/").rpartition("/")[2]
    return Path(source.path).name
