"""Delta pairs: a stronger model's answer is chosen over a weaker one's to the same prompt.

The weaker model's answers are kept in memory, by prompt; of the stronger one's each takes the next
that is left. What has no counterpart is rejected as `unpaired`.
"""

from collections import deque
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from evals.files.opening.remote import data_files
from schemas.ids import prompt_id, turns_id
from schemas.labels import Message, Preference
from stages.ingest.datasets.config import DeltaDataset
from stages.ingest.datasets.own.prompts import answered
from stages.ingest.datasets.own.sided import beside
from stages.ingest.examples import (
    ComparisonExample,
    RowError,
    check_comparison,
    template_of,
)
from stages.ingest.readers.columns import renamed
from stages.ingest.readers.raw_rows import read_raw_rows
from stages.ingest.readers.sources import FileReader


class DeltaReader(FileReader[DeltaDataset]):
    """Rows of the stronger model's answers."""

    def parse(self, row: Mapping[str, Any]) -> ComparisonExample:
        """The answer beside the weaker model's. Raises RowError."""
        prompt, chosen = answered(row)
        waiting = self._weaker.get(prompt_id(prompt))
        if not waiting:
            raise RowError("unpaired", "the weaker model has no answer left to this prompt")
        rejected = waiting.popleft()
        if turns_id(rejected) == turns_id(chosen):
            raise RowError("identical_completions", "both models give the same answer")
        example = ComparisonExample(
            prompt,
            chosen,
            rejected,
            Preference.A,
            chosen_first=True,
            template=template_of(row),
            **{**beside(row), "label_source": "delta"},
        )
        return check_comparison(example, "chosen", "rejected")

    @cached_property
    def _weaker(self) -> dict[str, deque[list[Message]]]:
        """The weaker model's answers by prompt, those that can be read, in the order of files."""
        found: dict[str, deque[list[Message]]] = {}
        for file, path in data_files(self.config.weaker, self.config.suffixes):
            for origin in read_raw_rows(path, file):
                if isinstance(origin.value, RowError):
                    continue
                try:
                    prompt, answer = answered(renamed(self.names, origin.value))
                except RowError:
                    continue
                found.setdefault(prompt_id(prompt), deque()).append(answer)
        return found
