"""Which kinds of data set have which columns."""

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from stages.ingest.datasets.config import Dataset

GUESSES = ("ultrafeedback_openbmb", "arena", "helpsteer3", "ultrafeedback", "hh", "jsonl")
"""The kinds that read rows of files, the strictest first."""


def default_settings(kind: str, path: str = "") -> Any:
    """A data set of a kind with its default settings. Raises ValidationError."""
    return TypeAdapter(Dataset).validate_python({"kind": kind, "path": path})


def has_columns(found: Sequence[str], columns: tuple[tuple[str, ...], ...]) -> bool:
    """Whether one of these sets of columns is there whole."""
    return any(set(wanted) <= set(found) for wanted in columns)


def kinds_with(columns: Sequence[str]) -> list[str]:
    """The kinds that read Parquet files with such columns."""
    listed = (*GUESSES[:-1], "parquet")
    return [kind for kind in listed if has_columns(columns, default_settings(kind).column_sets())]
