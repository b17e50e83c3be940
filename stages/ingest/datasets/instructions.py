"""Prompts of the world of verifiable instructions: made, not found; any answer can be checked."""

from collections.abc import Iterator

from evals.instruction_world import prompts
from stages.ingest.datasets.config import InstructionsDataset
from stages.ingest.examples import PromptExample
from stages.ingest.readers.pieces import Piece, read_examples
from stages.ingest.readers.sources import Source, SplitOf


class InstructionsReader:
    """The prompts of one configuration."""

    def __init__(self, config: InstructionsDataset) -> None:
        self.config = config

    def sources(self, seed: int, split_of: SplitOf) -> list[Source]:
        """One source of prompts."""
        seed = seed if self.config.seed is None else self.config.seed
        file = f"instructions:seed={seed}"

        def pieces() -> Iterator[Piece]:
            return read_examples(file, map(PromptExample, prompts(self.config.prompts, seed)))

        return [Source(file, self.config.name or self.config.kind, pieces)]
