"""Tables written in other programs' formats."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evals.files.opening.sending import new_folder
from pipeline.commands.data.formats import Format, Ties
from pipeline.commands.data.interchange import (
    TO_COOKBOOK,
    TO_TRL,
    TRL_NAMES,
    TRL_SCHEMA,
    TRL_TOOL_CALLS,
    Converted,
    Skipped,
)
from pipeline.commands.data.stats import tables_of
from schemas.errors import ConfigError, DataError
from schemas.files import first_line, is_plain_name
from schemas.parquet import rows_of
from schemas.tables import MESSAGES, TABLES, TEMPLATE_COLUMNS

_BATCH_ROWS = 2048
Row = dict[str, Any]


def tables_to_export(to: Format, what: str | None, run_dir: Path) -> list[Path]:
    """The files to read. Raises MissingInputError."""
    if what is not None:
        return tables_of(what, run_dir)
    if to is Format.HUB_LAYOUT:
        return tables_of("ingest", run_dir)
    wanted = ["label/comparisons"] if to is Format.COOKBOOK else ["label/preference_pairs"]
    there = [name for name in wanted if (run_dir / f"{name}.parquet").is_file()]
    return tables_of((there or ["ingest/comparisons"])[0], run_dir)


def write_export(
    to: Format, tables: list[Path], out: Path | str, ties: Ties = Ties.KEEP
) -> dict[str, dict[str, int]]:
    """Write a folder, here or on a remote store; file -> rows written and left out.

    A file per split where the table has splits; rows keep the table's order.

    Raises:
        ConfigError: the folder holds something, or the format cannot hold this table.
        DataError: a table cannot be read.
        BackendError: a store cannot be reached.
    """
    several = len(tables) > 1 or to is Format.HUB_LAYOUT
    counts: dict[str, dict[str, int]] = {}
    with new_folder(str(out)) as working:
        for path in tables:
            part = f"data/{path.stem}/" if to is Format.HUB_LAYOUT else f"{path.stem}/"
            counts |= _write_table(to, path, working, part * several, ties)
        if to is Format.HUB_LAYOUT:
            (working / "README.md").write_text(_card(counts), encoding="utf-8")
    return counts


def _write_table(
    to: Format, path: Path, out: Path, folder: str, ties: Ties
) -> dict[str, dict[str, int]]:

    try:
        with ExitStack() as stack:
            file = stack.enter_context(pq.ParquetFile(path))
            sinks = _Sinks(to, out, folder, _schema(to, file), stack)
            convert = _converter(to, path, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                rows = rows_of(pa.Table.from_batches([batch]))
                sinks.write(_sorted_out(rows, convert, ties, sinks.counts))
            return sinks.counted()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({first_line(error)})") from error


def _schema(to: Format, file: pq.ParquetFile) -> pa.Schema:
    """The columns to write; of messages only the fields that any message of the file has."""

    found = file.schema_arrow
    used = _used_fields(file, [f.name for f in found if f.type == MESSAGES])
    fields = [f for f in MESSAGES.value_type if f.name in used]
    schema = found.remove_metadata()
    if to is Format.TRL:
        fields = [f.with_name(TRL_NAMES.get(f.name, f.name)) for f in fields]
        fields = [f.with_type(TRL_TOOL_CALLS) if f.name == "tool_calls" else f for f in fields]
        unused = _unused_columns(file)
        schema = pa.schema([f for f in TRL_SCHEMA if f.name not in unused])
    messages = pa.list_(pa.struct(fields))
    return pa.schema([f.with_type(messages) if f.type == MESSAGES else f for f in schema])


def _unused_columns(file: pq.ParquetFile) -> set[str]:
    """The columns for a chat template that no row has."""
    there = sorted(TEMPLATE_COLUMNS & set(file.schema_arrow.names))
    used: set[str] = set()
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=there) if there else ():
        used |= {name for name in there if batch.column(name).null_count < batch.num_rows}
    return set(TEMPLATE_COLUMNS) - used


def _used_fields(file: pq.ParquetFile, columns: list[str]) -> set[str]:
    """The fields of a message that are not null everywhere; role and content always."""
    used = {"role", "content"}
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns) if columns else ():
        for column in batch.columns:
            turns = column.flatten()
            pairs = zip(turns.type, turns.flatten(), strict=True)
            used |= {field.name for field, values in pairs if values.null_count < len(values)}
    return used


def _converter(to: Format, path: Path, columns: list[str]) -> Callable[[Row], Converted]:
    known = {Format.TRL: TO_TRL, Format.COOKBOOK: TO_COOKBOOK}.get(to)
    if known is None:
        return lambda row: row
    for name, convert in known.items():
        if TABLES[name].required <= set(columns):
            return convert
    raise ConfigError(
        f"{path}: only comparisons and preference_pairs can be written as {to}; "
        "choose such a table, or --to jsonl"
    )


def _sorted_out(
    rows: list[Row],
    convert: Callable[[Row], Converted],
    ties: Ties,
    counts: dict[str, Counter[str]],
) -> Iterator[tuple[str, Row]]:
    """(split, converted row) of the rows that are written; everything is counted."""
    for row in rows:
        split = row.get("split") or "train"
        count = counts.setdefault(split, Counter(rows=0))
        is_tie = row.get("label") == "Tie"
        converted = convert(row)
        if isinstance(converted, Skipped):
            count[f"{converted.reason} left out"] += 1
        elif is_tie and ties is Ties.DROP:
            count["ties left out"] += 1
        else:
            count["rows"] += 1
            if is_tie:
                count["ties kept"] += 1
            yield split, converted


class _Sinks:
    """The files of one table, one per split, opened when their first row comes."""

    def __init__(
        self, to: Format, out: Path, folder: str, schema: pa.Schema, stack: ExitStack
    ) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self._suffix = ".parquet" if to in (Format.TRL, Format.HUB_LAYOUT) else ".jsonl"
        self._out, self._folder, self._schema, self._stack = out, folder, schema, stack
        self._open: dict[str, Callable[[list[Row]], None]] = {}

    def write(self, rows: Iterator[tuple[str, Row]]) -> None:
        """Write some rows to the files of their splits."""
        by_split: dict[str, list[Row]] = {}
        for split, row in rows:
            by_split.setdefault(split, []).append(row)
        for split, listed in by_split.items():
            if not is_plain_name(split):
                raise DataError(
                    f"split {split!r}: cannot be the name of a file; correct it where the table "
                    "comes from"
                )
            if split not in self._open:
                self._open[split] = self._sink(self._out / f"{self._folder}{split}{self._suffix}")
            self._open[split](listed)

    def counted(self) -> dict[str, dict[str, int]]:
        """File -> its counts."""
        return {
            f"{self._folder}{split}{self._suffix}": dict(count)
            for split, count in self.counts.items()
        }

    def _sink(self, path: Path) -> Callable[[list[Row]], None]:
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._suffix == ".jsonl":
            lines = self._stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
            return lambda rows: lines.writelines(
                json.dumps(row, ensure_ascii=False) + "\n" for row in rows
            )
        writer = self._stack.enter_context(
            pq.ParquetWriter(path, self._schema, compression="zstd", compression_level=1)
        )
        return lambda rows: writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))


def _card(counts: Mapping[str, Mapping[str, int]]) -> str:
    """A README that tells `datasets` which files belong to which configuration and split."""
    names = sorted({Path(file).parent.name for file in counts})
    default = "comparisons" if "comparisons" in names else names[0] if names else ""
    lines = ["---", "configs:"]
    for name in names:
        lines += [f"- config_name: {name}", *(["  default: true"] if name == default else [])]
        lines += ["  data_files:"]
        for file in counts:
            if Path(file).parent.name == name:
                lines += [f"  - split: {Path(file).stem}", f"    path: {file}"]
    return "\n".join([*lines, "---", "", "Tables written by `prefline export`.", ""])
