"""Filters: rules that leave rows out, each under its own name and with a reason for every row."""

import re
from collections.abc import Mapping
from typing import Any

import polars as pl

from schemas.labels import Preference
from stages.ingest.examples import ComparisonExample, Example
from stages.ingest.filters.config import Empty, Identical, Language, MinMargin, RefusalPairs
from stages.ingest.filters.length_rules import LengthRatioRule, MaxCharactersRule, MaxTokensRule
from stages.ingest.filters.refusals import is_refusal
from stages.ingest.filters.rules import Rule, prompt_text
from stages.ingest.filters.texts import completions, text


class LanguageRule(Rule[Language]):
    """Rows by the language tag that the source gives; nothing is guessed."""

    def suspects(self) -> pl.Expr:
        """Rows whose tag is none of the allowed ones as they are written."""
        return ~pl.col("language").is_in(self.settings.allowed).fill_null(False)

    def _found(self, example: Example) -> str | None:
        if example.language is None:
            return "no language tag" if self.settings.untagged == "reject" else None
        allowed = {tag.lower() for tag in self.settings.allowed}
        return None if example.language.lower() in allowed else f"tagged {example.language}"


class EmptyRule(Rule[Empty]):
    """Texts without one letter or digit; texts without any character are always rejected."""

    def suspects(self) -> pl.Expr:
        """Rows with a text that has no letter or digit of ASCII."""
        bare = [~pl.col(side).str.contains("[A-Za-z0-9]") for side in ("a", "b")]
        return pl.any_horizontal(~prompt_text().str.contains("[A-Za-z0-9]"), *bare)

    def _found(self, example: Example) -> str | None:
        texts = {"prompt": text(example.prompt)} | {
            f"completion {i}": said for i, said in enumerate(completions(example), 1)
        }
        bare = [name for name, said in texts.items() if not any(c.isalnum() for c in said)]
        return f"{', '.join(bare)} without a letter or digit" if bare else None


class IdenticalRule(Rule[Identical]):
    """Completions that differ in case, spaces or punctuation only."""

    def suspects(self) -> pl.Expr:
        """Pairs whose letters and digits of ASCII are the same."""
        a, b = (
            pl.col(side).str.to_lowercase().str.replace_all("[^a-z0-9]+", "") for side in ("a", "b")
        )
        return a == b

    def _found(self, example: Example) -> str | None:
        if not isinstance(example, ComparisonExample):
            return None
        first, second = (re.findall(r"\w+", side.lower()) for side in completions(example))
        return "the completions are the same words" if first == second and first else None


class RefusalPairsRule(Rule[RefusalPairs]):
    """Pairs that teach to refuse, or that have nothing else to teach."""

    def suspects(self) -> pl.Expr:
        """Pairs of which a side begins with a word that refusals begin with."""
        opening = r"(?i)^[^a-z]*(?:i|sorry|apologi|unfortunately|as a)"
        a, b = (pl.col(side).str.contains(opening) for side in ("a", "b"))
        return (a & b) if self.settings.where == "both" else (a | b)

    def _found(self, example: Example) -> str | None:
        if not isinstance(example, ComparisonExample):
            return None
        a, b = map(is_refusal, completions(example))
        chosen, rejected = (b, a) if example.label is Preference.B else (a, b)
        if example.label is Preference.TIE and self.settings.where in ("chosen", "rejected"):
            return None
        refused = {"chosen": chosen, "rejected": rejected, "both": a and b, "either": a or b}
        return f"{self.settings.where} refused" if refused[self.settings.where] else None


class MinMarginRule(Rule[MinMargin]):
    """Comparisons whose strength, in the source's own units, is too small; ties have none."""

    def suspects(self) -> pl.Expr:
        """Rows that are a tie, too weak, or silent."""
        strong = pl.col("strength") >= self.settings.min_margin
        return (pl.col("label") == "Tie") | ~strong.fill_null(False)

    def _found(self, example: Example) -> str | None:
        if not isinstance(example, ComparisonExample):
            return None
        if example.label is Preference.TIE:
            return "a tie"
        if example.strength is None:
            return "no strength" if self.settings.unknown == "reject" else None
        strong = example.strength >= self.settings.min_margin
        return (
            None if strong else f"strength {example.strength:g} below {self.settings.min_margin:g}"
        )


_RULES: Mapping[str, Any] = {
    "length_ratio": LengthRatioRule,
    "language": LanguageRule,
    "empty": EmptyRule,
    "identical": IdenticalRule,
    "refusal_pairs": RefusalPairsRule,
    "min_margin": MinMarginRule,
    "max_characters": MaxCharactersRule,
    "max_tokens": MaxTokensRule,
}


def rule_of(settings: Any) -> Any:
    """The rule with these settings, one of `filters.config.Filter`."""
    return _RULES[settings.kind](settings)
