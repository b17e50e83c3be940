"""Rules by length: of both completions to one another, and of prompt and completion together."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from schemas.errors import DataError, MissingInputError
from stages.ingest.examples import ComparisonExample, Example
from stages.ingest.filters.rules import Rule, prompt_text
from stages.ingest.filters.texts import completions, text

if TYPE_CHECKING:
    import polars as pl
    from tokenizers import Tokenizer


class LengthRatio(Rule):
    """Completions so unequal in length that length is what will be learned."""

    kind: Literal["length_ratio"] = Field("length_ratio", description="one side is far longer")
    max_ratio: float = Field(4.0, gt=1, description="longest over shortest, in characters")

    def suspects(self) -> "pl.Expr":
        """Pairs whose longest side is too long for the shortest."""
        import polars as pl

        a, b = (pl.col(side).str.len_chars() for side in ("a", "b"))
        return pl.max_horizontal(a, b) > self.max_ratio * pl.min_horizontal(a, b)

    def _found(self, example: Example) -> str | None:
        if not isinstance(example, ComparisonExample):
            return None
        short, long = sorted(map(len, completions(example)))
        return f"{long} to {short} characters" if long > self.max_ratio * short else None


class MaxCharacters(Rule):
    """Prompt and longest completion together, in characters."""

    kind: Literal["max_characters"] = Field("max_characters", description="length in characters")
    limit: int = Field(ge=1, description="most characters of prompt and longest completion")

    def suspects(self) -> "pl.Expr":
        """Rows that are too long."""
        return _total(prompt_text().str.len_chars(), "len_chars") > self.limit

    def _found(self, example: Example) -> str | None:
        longest = max(map(len, completions(example)), default=0)
        total = len(text(example.prompt)) + longest
        return f"{total} characters, at most {self.limit}" if total > self.limit else None


class MaxTokens(Rule):
    """Prompt and longest completion together, in a tokenizer's tokens, template not counted."""

    kind: Literal["max_tokens"] = Field("max_tokens", description="length in tokens")
    limit: int = Field(ge=1, description="most tokens of prompt and longest completion")
    tokenizer: str = Field(description="a tokenizer.json, or the folder of a model that has one")

    def suspects(self) -> "pl.Expr":
        """Rows of more bytes than that: no token is less than a byte."""
        return _total(prompt_text().str.len_bytes(), "len_bytes") > self.limit

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

    def _found(self, example: Example) -> str | None:
        prompt, *answers = self._lengths([text(example.prompt), *completions(example)])
        total = prompt + max(answers, default=0)
        return f"{total} tokens, at most {self.limit}" if total > self.limit else None

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        encoded = _tokenizer(self.tokenizer).encode_batch(list(texts), add_special_tokens=False)
        return [len(one.ids) for one in encoded]


def _total(prompt: "pl.Expr", length: str) -> "pl.Expr":
    """The prompt's length and that of the longest completion, where there is one."""
    import polars as pl

    sides = [getattr(pl.col(side).str, length)().fill_null(0) for side in ("a", "b")]
    return prompt.cast(pl.Int64) + pl.max_horizontal(*sides).cast(pl.Int64)


@lru_cache(maxsize=2)
def _tokenizer(path: str) -> "Tokenizer":
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # the library raises bare Exception for everything
        raise DataError(
            f"{path}: not a tokenizer ({str(error)[:80]}); set max_tokens' tokenizer"
        ) from error
