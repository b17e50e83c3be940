"""Settings of the filters: rules that leave rows out."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from schemas.errors import MissingInputError
from schemas.stage import Config


class RuleSettings(Config):
    """What all rules can be told."""

    kind: str
    sources: list[str] | None = Field(
        None, description="the sources it is for, by name; null is for all of them"
    )

    def files(self) -> list[Path]:
        """The files that the rule reads."""
        return []


class LengthRatio(RuleSettings):
    """Completions so unequal in length that length is what will be learned."""

    kind: Literal["length_ratio"] = Field("length_ratio", description="one side is far longer")
    max_ratio: float = Field(4.0, gt=1, description="longest over shortest, in characters")


class MaxCharacters(RuleSettings):
    """Prompt and longest completion together, in characters."""

    kind: Literal["max_characters"] = Field("max_characters", description="length in characters")
    limit: int = Field(ge=1, description="most characters of prompt and longest completion")


class MaxTokens(RuleSettings):
    """Prompt and longest completion together, in a tokenizer's tokens, template not counted."""

    kind: Literal["max_tokens"] = Field("max_tokens", description="length in tokens")
    limit: int = Field(ge=1, description="most tokens of prompt and longest completion")
    tokenizer: str = Field(description="a tokenizer.json, or the folder of a model that has one")

    def files(self) -> list[Path]:
        """The tokenizer's file. Raises MissingInputError where there is none."""
        path = Path(self.tokenizer)
        if not path.is_file():
            raise MissingInputError(f"{path}: no tokenizer; set that of max_tokens in [ingest]")
        return [path]

    @field_validator("tokenizer")
    @classmethod
    def _file(cls, value: str) -> str:
        path = Path(value).expanduser()
        return str(path / "tokenizer.json" if path.is_dir() else path)


class Language(RuleSettings):
    """Rows by the language tag that the source gives; nothing is guessed."""

    kind: Literal["language"] = Field("language", description="the source's language tag")
    allowed: list[str] = Field(min_length=1, description="tags that pass, in any case")
    untagged: Literal["keep", "reject"] = Field("keep", description="what becomes of rows without")


class Empty(RuleSettings):
    """Texts without one letter or digit; texts without any character are always rejected."""

    kind: Literal["empty"] = Field("empty", description="a text without a letter or digit")


class Identical(RuleSettings):
    """Completions that differ in case, spaces or punctuation only."""

    kind: Literal["identical"] = Field("identical", description="both sides say the same words")


class RefusalPairs(RuleSettings):
    """Pairs that teach to refuse, or that have nothing else to teach."""

    kind: Literal["refusal_pairs"] = Field("refusal_pairs", description="answers that refuse")
    where: Literal["chosen", "rejected", "both", "either"] = Field(
        "both", description="which side must refuse for the row to be left out"
    )


class MinMargin(RuleSettings):
    """Comparisons whose strength, in the source's own units, is too small; ties have none."""

    kind: Literal["min_margin"] = Field("min_margin", description="strength of the preference")
    min_margin: float = Field(gt=0, description="least strength that passes")
    unknown: Literal["keep", "reject"] = Field("keep", description="where the source is silent")


Filter = Annotated[
    LengthRatio
    | Language
    | Empty
    | Identical
    | RefusalPairs
    | MinMargin
    | MaxCharacters
    | MaxTokens,
    Field(discriminator="kind"),
]
