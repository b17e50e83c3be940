"""Prompts that a data set took from an evaluation set, by its own word."""

from collections.abc import Mapping
from typing import Any

from stages.ingest.datasets.config import TruthfulQA
from stages.ingest.examples import RowError

TRUTHFUL_QA = frozenset({"truthful_qa", "truthfulqa"})


def refuse_truthful_qa(row: Mapping[str, Any], wish: TruthfulQA) -> None:
    """Refuse a row whose `source` says TruthfulQA, unless told to keep such rows.

    Copies of its questions also stand under other sources: those are found by comparing with the
    evaluation set itself. Raises RowError.
    """
    source = row.get("source")
    if wish == "reject" and isinstance(source, str) and source.lower() in TRUTHFUL_QA:
        raise RowError("eval_contamination", "the prompt is from TruthfulQA, an evaluation set")
