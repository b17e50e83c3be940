"""What rows must be to stand in a declared table: columns, types, nulls, keys, values."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import DataError
from schemas.tables import Table

Rows = Iterable[Mapping[str, Any]]


def rows_to_arrow(table: Table, rows: Rows) -> pa.Table:
    """Turn dictionaries into an Arrow table of the declared schema.

    Raises:
        DataError: a value has the wrong type, or a key is unknown or missing.
    """
    listed = list(rows)
    known = set(table.schema.names)
    for index, row in enumerate(listed):
        if not (table.required <= set(row) <= known):
            odd = sorted((set(row) - known) | (table.required - set(row)))
            raise DataError(f"{table.name} row {index}: columns {odd} are missing or unknown")
    try:
        return pa.Table.from_pylist(listed, schema=table.schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"{table.name}: {error}") from error


def validate(table: Table, data: pa.Table, where: str) -> pa.Table:
    """Cast to the declared schema and check nulls, key, allowed values and ranges.

    Raises:
        DataError: naming `where`, the column, and the first offending row or value.
    """
    data = validate_rows(table, data, where)
    if table.key and data.num_rows:
        distinct = data.group_by(list(table.key)).aggregate([]).num_rows
        if distinct != data.num_rows:
            raise DataError(
                f"{where}: {data.num_rows - distinct} rows repeat the key {', '.join(table.key)}"
            )
    return data


def validate_rows(table: Table, data: pa.Table, where: str) -> pa.Table:
    """What `validate` does, but for the key, which a part of a table cannot tell.

    Raises:
        DataError: naming `where`, the column, and the first offending row or value.
    """
    data = _declared(table, data, where)
    _check_nulls(table, data, where)
    _check_allowed(table, data, where)
    _check_ranges(table, data, where)
    return data


def _declared(table: Table, data: pa.Table, where: str) -> pa.Table:
    for name in table.later - set(data.column_names):
        column = table.schema.field(name)
        data = data.append_column(column, pa.nulls(data.num_rows, column.type))
    missing = [n for n in table.schema.names if n not in data.column_names]
    if missing:
        raise DataError(
            f"{where}: not a {table.name} table: column {missing[0]!r} is missing "
            f"(found {', '.join(data.column_names[:8])})"
        )
    try:
        return data.select(table.schema.names).cast(table.schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise DataError(f"{where}: not a {table.name} table: {error}") from error


def _check_nulls(table: Table, data: pa.Table, where: str) -> None:
    for column in table.schema:
        values = data[column.name]
        if not column.nullable and values.null_count:
            row = pc.index(values.is_null(), True).as_py()
            raise DataError(f"{where}: row {row}: {column.name} is null")


def _check_allowed(table: Table, data: pa.Table, where: str) -> None:
    for name, allowed in table.allowed.items():
        seen = set(data[name].unique().to_pylist()) - {None}
        if seen - allowed:
            raise DataError(
                f"{where}: {name} is {sorted(seen - allowed)[0]!r}, must be one of "
                f"{', '.join(sorted(allowed))}"
            )


def _check_ranges(table: Table, data: pa.Table, where: str) -> None:
    for name, (low, high) in table.ranges.items():
        values = data[name].drop_null()
        inside = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
        if len(values) and not pc.all(inside).as_py():
            raise DataError(f"{where}: {name} has a value outside [{low}, {high}]")
