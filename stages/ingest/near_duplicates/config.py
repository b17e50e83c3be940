"""Settings of near-duplicates and of evaluation sets that training must not overlap."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from evals.files.opening.places import is_remote, local_files
from schemas.stage import Config


class NearDuplicates(Config):
    """What becomes of prompts that say nearly the same."""

    policy: Literal["one_split", "drop", "off"] = Field(
        "one_split",
        description="one_split: near copies of a held-out prompt are held out with it; drop: only "
        "one of them is kept, a held-out one where there is one; off: nobody looks for them",
    )
    threshold: float = Field(
        0.7, ge=0.7, le=1, description="least Jaccard similarity of the sets of word triples"
    )


class Decontaminate(Config):
    """An evaluation set that training prompts must not overlap."""

    path: str = Field(
        description="a table or .jsonl, .json, .parquet, .csv, .arrow file (gzip and zstd too), a "
        "folder or glob"
    )
    name: str | None = Field(None, description="what rejects call it; null takes the path")
    column: str | None = Field(
        None,
        description="column with the text, conversation or list of turns; null takes the first of "
        "prompt, instruction, question, turns, input, text, messages, context",
    )
    ngram: int = Field(
        13, ge=4, le=50, description="words in a row that make an overlap: 13, or 8 to be strict"
    )

    def files(self) -> list[Path]:
        """The files to read. Raises MissingInputError where there is none."""
        if is_remote(self.path):
            return []
        return [path for _, path in local_files(self.path)]
