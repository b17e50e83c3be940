"""What a rule that leaves rows out is.

A rule looks at one example and either lets it pass or says why not. Rules that speak of two
completions let demonstrations and prompts pass. In whole columns a rule names its suspects, which
may be too many and never too few; only those are looked at one by one.
"""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import polars as pl

from stages.ingest.examples import Example, RowError
from stages.ingest.filters.config import RuleSettings

S = TypeVar("S", bound=RuleSettings)


class Rule(ABC, Generic[S]):
    """A kind of rule adds `_found`, and `suspects` where columns can tell them."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def reject(self, example: Example, source: str) -> RowError | None:
        """Why the example of this source is left out, or None."""
        if self.settings.sources is not None and source not in self.settings.sources:
            return None
        found = self._found(example)
        return RowError(self.settings.kind, found) if found else None

    def suspects(self) -> pl.Expr:
        """Every row of a frame as in `columnar.frames` that the rule may object to."""
        return pl.lit(True)

    @abstractmethod
    def _found(self, example: Example) -> str | None:
        """What is wrong with an example, or None."""


def prompt_text() -> pl.Expr:
    """All turns of a prompt as one text, as `texts.text` of one example."""
    contents = pl.col("prompt").list.eval(pl.element().struct.field("content"))
    return contents.list.join("\n")
