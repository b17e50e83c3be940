"""Filters: rules that leave rows out, each under its own name and with a reason for every row."""

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from schemas.labels import Preference
from stages.ingest.examples import ComparisonExample, Example
from stages.ingest.filters.length_rules import LengthRatio, MaxCharacters, MaxTokens
from stages.ingest.filters.refusals import is_refusal
from stages.ingest.filters.rules import Rule, prompt_text
from stages.ingest.filters.texts import completions, text

if TYPE_CHECKING:
    import polars as pl


class Language(Rule):
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


class Empty(Rule):
    """Texts without one letter or digit; texts without any character are always rejected."""

    kind: Literal["empty"] = Field("empty", description="a text without a letter or digit")

    def suspects(self) -> "pl.Expr":
        """Rows with a text that has no letter or digit of ASCII."""
        import polars as pl

        bare = [~pl.col(side).str.contains("[A-Za-z0-9]") for side in ("a", "b")]
        return pl.any_horizontal(~prompt_text().str.contains("[A-Za-z0-9]"), *bare)

    def _found(self, example: Example) -> str | None:
        texts = {"prompt": text(example.prompt)} | {
            f"completion {i}": said for i, said in enumerate(completions(example), 1)
        }
        bare = [name for name, said in texts.items() if not any(c.isalnum() for c in said)]
        return f"{', '.join(bare)} without a letter or digit" if bare else None


class Identical(Rule):
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


class RefusalPairs(Rule):
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


class MinMargin(Rule):
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
