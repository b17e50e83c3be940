"""Rules that leave rows out, each under its own name and with a reason for every row.

A rule looks at one example and either lets it pass or says why not. Rules that speak of two
completions let demonstrations and prompts pass. In whole columns a rule names its suspects, which
may be too many and never too few; only those are looked at one by one.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from schemas.errors import DataError, MissingInputError
from schemas.labels import Preference
from schemas.stage import Config
from stages.ingest.cleaning.refusals import is_refusal
from stages.ingest.cleaning.texts import completions, text
from stages.ingest.examples import ComparisonExample, Example, RowError

if TYPE_CHECKING:
    import polars as pl
    from tokenizers import Tokenizer


class _Rule(Config):
    sources: list[str] | None = Field(
        None, description="the sources it is for, by name; null is for all of them"
    )

    def reject(self, example: Example, source: str) -> RowError | None:
        """Why the example of this source is left out, or None."""
        if self.sources is not None and source not in self.sources:
            return None
        found = self._found(example)
        return RowError(self.reason, found) if found else None

    def files(self) -> list[Path]:
        """The files that the rule reads."""
        return []

    @property
    def reason(self) -> str:
        """The code under which rejects are counted."""
        return str(getattr(self, "kind", ""))

    def suspects(self) -> "pl.Expr":
        """Every row of a frame as in `columnar.frames` that the rule may object to."""
        import polars as pl

        return pl.lit(True)

    def _found(self, example: Example) -> str | None:
        raise NotImplementedError


class LengthRatio(_Rule):
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


class Language(_Rule):
    """Rows by the language tag that the source gives; nothing is guessed."""

    kind: Literal["language"] = Field("language", description="the source's language tag")
    allowed: list[str] = Field(min_length=1, description="tags that pass, in any case")
    untagged: Literal["keep", "reject"] = Field("keep", description="what becomes of rows without")

    def suspects(self) -> "pl.Expr":
        """Rows whose tag is none of the allowed ones as they are written."""
        import polars as pl

        return ~pl.col("language").is_in(self.allowed).fill_null(False)

    def _found(self, example: Example) -> str | None:
        if example.language is None:
            return "no language tag" if self.untagged == "reject" else None
        allowed = {tag.lower() for tag in self.allowed}
        return None if example.language.lower() in allowed else f"tagged {example.language}"


class Empty(_Rule):
    """Texts without one letter or digit; texts without any character are always rejected."""

    kind: Literal["empty"] = Field("empty", description="a text without a letter or digit")

    def suspects(self) -> "pl.Expr":
        """Rows with a text that has no letter or digit of ASCII."""
        import polars as pl

        bare = [~pl.col(side).str.contains("[A-Za-z0-9]") for side in ("a", "b")]
        return pl.any_horizontal(~_prompt_text().str.contains("[A-Za-z0-9]"), *bare)

    def _found(self, example: Example) -> str | None:
        texts = {"prompt": text(example.prompt)} | {
            f"completion {i}": said for i, said in enumerate(completions(example), 1)
        }
        bare = [name for name, said in texts.items() if not any(c.isalnum() for c in said)]
        return f"{', '.join(bare)} without a letter or digit" if bare else None


class Identical(_Rule):
    """Completions that differ in case, spaces or punctuation only."""

    kind: Literal["identical"] = Field("identical", description="both sides say the same words")

    def suspects(self) -> "pl.Expr":
        """Pairs whose letters and digits of ASCII are the same."""
        import polars as pl

        a, b = (
            pl.col(side).str.to_lowercase().str.replace_all("[^a-z0-9]+", "") for side in ("a", "b")
        )
        return a == b

    def _found(self, example: Example) -> str | None:
        if not isinstance(example, ComparisonExample):
            return None
        first, second = (re.findall(r"\w+", side.lower()) for side in completions(example))
        return "the completions are the same words" if first == second and first else None


class RefusalPairs(_Rule):
    """Pairs that teach to refuse, or that have nothing else to teach."""

    kind: Literal["refusal_pairs"] = Field("refusal_pairs", description="answers that refuse")
    where: Literal["chosen", "rejected", "both", "either"] = Field(
        "both", description="which side must refuse for the row to be left out"
    )

    def suspects(self) -> "pl.Expr":
        """Pairs of which a side begins with a word that refusals begin with."""
        import polars as pl

        opening = r"(?i)^[^a-z]*(?:i|sorry|apologi|unfortunately|as a)"
        a, b = (pl.col(side).str.contains(opening) for side in ("a", "b"))
        return (a & b) if self.where == "both" else (a | b)

    def _found(self, example: Example) -> str | None:
        if not isinstance(example, ComparisonExample):
            return None
        a, b = map(is_refusal, completions(example))
        chosen, rejected = (b, a) if example.label is Preference.B else (a, b)
        if example.label is Preference.TIE and self.where in ("chosen", "rejected"):
            return None
        refused = {"chosen": chosen, "rejected": rejected, "both": a and b, "either": a or b}
        return f"{self.where} refused" if refused[self.where] else None


class MinMargin(_Rule):
    """Comparisons whose strength, in the source's own units, is too small; ties have none."""

    kind: Literal["min_margin"] = Field("min_margin", description="strength of the preference")
    min_margin: float = Field(gt=0, description="least strength that passes")
    unknown: Literal["keep", "reject"] = Field("keep", description="where the source is silent")

    def suspects(self) -> "pl.Expr":
        """Rows that are a tie, too weak, or silent."""
        import polars as pl

        strong = pl.col("strength") >= self.min_margin
        return (pl.col("label") == "Tie") | ~strong.fill_null(False)

    def _found(self, example: Example) -> str | None:
        if not isinstance(example, ComparisonExample):
            return None
        if example.label is Preference.TIE:
            return "a tie"
        if example.strength is None:
            return "no strength" if self.unknown == "reject" else None
        strong = example.strength >= self.min_margin
        return None if strong else f"strength {example.strength:g} below {self.min_margin:g}"


class MaxCharacters(_Rule):
    """Prompt and longest completion together, in characters."""

    kind: Literal["max_characters"] = Field("max_characters", description="length in characters")
    limit: int = Field(ge=1, description="most characters of prompt and longest completion")

    def suspects(self) -> "pl.Expr":
        """Rows that are too long."""
        return _total(_prompt_text().str.len_chars(), "len_chars") > self.limit

    def _found(self, example: Example) -> str | None:
        longest = max(map(len, completions(example)), default=0)
        total = len(text(example.prompt)) + longest
        return f"{total} characters, at most {self.limit}" if total > self.limit else None


class MaxTokens(_Rule):
    """Prompt and longest completion together, in a tokenizer's tokens, template not counted."""

    kind: Literal["max_tokens"] = Field("max_tokens", description="length in tokens")
    limit: int = Field(ge=1, description="most tokens of prompt and longest completion")
    tokenizer: str = Field(description="a tokenizer.json, or the folder of a model that has one")

    def suspects(self) -> "pl.Expr":
        """Rows of more bytes than that: no token is less than a byte."""
        return _total(_prompt_text().str.len_bytes(), "len_bytes") > self.limit

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


@lru_cache(maxsize=2)
def _tokenizer(path: str) -> "Tokenizer":
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # the library raises bare Exception for everything
        raise DataError(
            f"{path}: not a tokenizer ({str(error)[:80]}); set max_tokens' tokenizer"
        ) from error


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


def _prompt_text() -> "pl.Expr":
    import polars as pl

    contents = pl.col("prompt").list.eval(pl.element().struct.field("content"))
    return contents.list.join("\n")


def _total(prompt: "pl.Expr", length: str) -> "pl.Expr":
    """The prompt's length and that of the longest completion, where there is one."""
    import polars as pl

    sides = [getattr(pl.col(side).str, length)().fill_null(0) for side in ("a", "b")]
    return prompt.cast(pl.Int64) + pl.max_horizontal(*sides).cast(pl.Int64)
