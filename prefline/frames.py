"""Frames of any library as rows, and rows as a frame."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import polars as pl
import pyarrow as pa

from schemas.errors import DataError

Row = dict[str, Any]


class _Pandas(Protocol):
    """What is used of a pandas frame, which need not be installed."""

    columns: Any

    def to_dict(self, orient: str) -> Any:
        """The rows as dictionaries, for `records`."""


class _Arrow(Protocol):
    """What is used of an Arrow table."""

    column_names: Any

    def to_pylist(self) -> Any:
        """The rows as dictionaries."""


Frame: TypeAlias = pl.DataFrame | pl.LazyFrame | _Arrow | _Pandas | Sequence[Mapping[str, Any]]
"""A polars or pandas frame, an Arrow table, or rows as dictionaries."""


def rows_of(frame: Frame) -> tuple[list[Row], list[str]]:
    """The rows of a frame and the names of its columns; what is missing in it is None.

    Raises:
        DataError: that is no frame.
    """
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, pl.DataFrame):
        return [_plain(row) for row in frame.to_dicts()], list(frame.columns)
    if isinstance(frame, pa.Table):
        return [_plain(row) for row in frame.to_pylist()], list(frame.column_names)
    if isinstance(frame, Sequence) and not isinstance(frame, str | bytes):
        if not all(isinstance(row, Mapping) for row in frame):
            raise DataError("rows must be dictionaries, one a row")
        return [_plain(row) for row in frame], list(dict.fromkeys(k for row in frame for k in row))
    if hasattr(frame, "to_dict") and hasattr(frame, "columns"):
        names = [str(name) for name in frame.columns]
        return [_plain(row) for row in frame.to_dict("records")], names
    raise DataError(
        f"{type(frame).__name__}: no frame; give one of polars or pandas, an Arrow table, or a "
        "list of dictionaries"
    )


def _plain(row: Mapping[str, Any]) -> Row:
    return {str(name): _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    """A value without what pandas has for nothing, and without numpy's types."""
    if hasattr(value, "tolist") and not isinstance(value, str | bytes):
        value = value.tolist()
    if isinstance(value, float) and math.isnan(value):
        return None
    return None if type(value).__name__ in ("NAType", "NaTType") else value


def require(columns: Iterable[str], wanted: Sequence[str], what: str) -> None:
    """Refuse a frame that lacks a column, by name and with those it has. Raises DataError."""
    found = list(columns)
    missing = [name for name in wanted if name not in found]
    if missing:
        listed = ", ".join(map(repr, missing))
        raise DataError(
            f"{what}: column{'s' if len(missing) > 1 else ''} {listed} missing; found "
            f"{', '.join(found) or 'none'}"
        )
