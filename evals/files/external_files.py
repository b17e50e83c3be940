"""Files that others have written: read whole, and refused in one line."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import ConfigError, DataError, MissingInputError
from schemas.files import first_line


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        MissingInputError: no such file.
        DataError: not JSON.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file; correct its path")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); fetch the file again") from error


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """A Parquet table that has at least these columns and one row.

    Raises:
        MissingInputError: no such file.
        DataError: not Parquet, or a column or all rows are missing.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file; correct its path")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a Parquet file: {first_line(error)}") from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise DataError(f"{path}: column {missing[0]} is missing")
    if not table.num_rows:
        raise DataError(f"{path}: has no rows")
    return table


def choose(path: Path, what: str, names: Sequence[str], wanted: str | None) -> str:
    """The one name there is, or the one wanted.

    Raises:
        ConfigError: it is not there, or there are several and none is wanted.
    """
    known = sorted(set(names))
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted in known:
        return str(wanted)
    there = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    if wanted is None:
        raise ConfigError(f"{path}: holds several; name one with --{what}: {there}")
    raise ConfigError(f"{path}: --{what} {wanted}: not in the file; it holds {there}")
