"""Rules by length: of both completions to one another, and of prompt and completion together."""

from collections.abc import Sequence
from functools import lru_cache

import polars as pl
from tokenizers import Tokenizer

from schemas.errors import DataError
from stages.ingest.examples import ComparisonExample, Example
from stages.ingest.filters.config import LengthRatio, MaxCharacters, MaxTokens
from stages.ingest.filters.rules import Rule, prompt_text
from stages.ingest.filters.texts import completions, text


class LengthRatioRule(Rule[LengthRatio]):
    """Completions so unequal in length that length is what will be learned."""

    def suspects(self) -> pl.Expr:
        """Pairs whose longest side is too long for the shortest."""
        a, b = (pl.col(side).str.len_chars() for side in ("a", "b"))
        return pl.max_horizontal(a, b) > self.settings.max_ratio * pl.min_horizontal(a, b)

    def _found(self, example: Example) -> str | None:
        if not isinstance(example, ComparisonExample):
            return None
        short, long = sorted(map(len, completions(example)))
        return f"{long} to {short} characters" if long > self.settings.max_ratio * short else None


class MaxCharactersRule(Rule[MaxCharacters]):
    """Prompt and longest completion together, in characters."""

    def suspects(self) -> pl.Expr:
        """Rows that are too long."""
        return _total(prompt_text().str.len_chars(), "len_chars") > self.settings.limit

    def _found(self, example: Example) -> str | None:
        longest = max(map(len, completions(example)), default=0)
        total = len(text(example.prompt)) + longest
        return (
            f"{total} characters, at most {self.settings.limit}"
            if total > self.settings.limit
            else None
        )


class MaxTokensRule(Rule[MaxTokens]):
    """Prompt and longest completion together, in a tokenizer's tokens, template not counted."""

    def suspects(self) -> pl.Expr:
        """Rows of more bytes than that: no token is less than a byte."""
        return _total(prompt_text().str.len_bytes(), "len_bytes") > self.settings.limit

    def _found(self, example: Example) -> str | None:
        prompt, *answers = self._lengths([text(example.prompt), *completions(example)])
        total = prompt + max(answers, default=0)
        return (
            f"{total} tokens, at most {self.settings.limit}"
            if total > self.settings.limit
            else None
        )

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        encoded = _tokenizer(self.settings.tokenizer).encode_batch(
            list(texts), add_special_tokens=False
        )
        return [len(one.ids) for one in encoded]


def _total(prompt: pl.Expr, length: str) -> pl.Expr:
    """The prompt's length and that of the longest completion, where there is one."""
    sides = [getattr(pl.col(side).str, length)().fill_null(0) for side in ("a", "b")]
    return prompt.cast(pl.Int64) + pl.max_horizontal(*sides).cast(pl.Int64)


@lru_cache(maxsize=2)
def _tokenizer(path: str) -> Tokenizer:
    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # the library raises bare Exception for everything
        raise DataError(
            f"{path}: not a tokenizer ({str(error)[:80]}); set max_tokens' tokenizer"
        ) from error
