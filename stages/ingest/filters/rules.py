"""What a rule that leaves rows out is.

A rule looks at one example and either lets it pass or says why not. Rules that speak of two
completions let demonstrations and prompts pass. In whole columns a rule names its suspects, which
may be too many and never too few; only those are looked at one by one.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from schemas.stage import Config
from stages.ingest.examples import Example, RowError

if TYPE_CHECKING:
    import polars as pl


class Rule(Config):
    """A kind of rule adds `_found`, and `suspects` where columns can tell them."""

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


def prompt_text() -> "pl.Expr":
    """All turns of a prompt as one text, as `texts.text` of one example."""
    import polars as pl

    contents = pl.col("prompt").list.eval(pl.element().struct.field("content"))
    return contents.list.join("\n")
