"""Coverage-guided fuzzing of the parsers with atheris, which is not required: run by hand.

    pip install atheris
    python tests/benchmarks/fuzz_parsers.py lines/hh -max_total_time=150

A group is `lines/CASE` or `columns/CASE`: a few rows of that format, sound as a rule, whose
oddities the fuzzer chooses; or `bytes/KIND`: lines as the fuzzer writes them, between good ones,
which must not suffer. Every file is read both ways, which must agree on every row, good or
rejected, and raise nothing. The share of good rows is printed as it goes.
"""

import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import atheris  # type: ignore[import-untyped]  # noqa: E402

with atheris.instrument_imports(include=["stages", "schemas"]):
    from tests.fixtures.byte_draw import ByteDraw
    from tests.fixtures.equals_plain import COLUMNS, LINES, check_readings
    from tests.fixtures.raw_cases import json_line

ROWS = 3
SAY_EVERY = 2_000


def main() -> None:
    """Fuzz the group that is named first; the rest are options of libFuzzer."""
    group = sys.argv.pop(1)
    folder = Path(tempfile.mkdtemp())
    write = writers()[group]
    seen: Counter[str] = Counter()

    def one(data: bytes) -> None:
        kind, path = write(folder, data)
        kept, rejected = check_readings(kind, path)
        assert kept >= 2 * ROWS or not group.startswith("bytes/"), "a neighbour was lost"
        seen.update(executions=1, rows=kept + rejected, kept=kept)
        if seen["executions"] % SAY_EVERY == 0:
            sys.stderr.write(json.dumps({"group": group, **seen}) + "\n")

    atheris.Setup([sys.argv[0], *seeds(group, folder), *sys.argv[1:]], one)
    atheris.Fuzz()


def writers() -> dict[str, Callable[[Path, bytes], tuple[str, Path]]]:
    """Group -> what writes a file of some bytes, and gives its kind and path."""
    lines = {f"lines/{case}": _line_writer(case) for case in LINES}
    columns = {f"columns/{case}": _column_writer(case) for case in COLUMNS}
    kinds = {kind for kind, _ in LINES.values()}
    return {**lines, **columns, **{f"bytes/{kind}": _byte_writer(kind) for kind in kinds}}


def _line_writer(case: str) -> Callable[[Path, bytes], tuple[str, Path]]:
    kind, make = LINES[case]

    def write(folder: Path, data: bytes) -> tuple[str, Path]:
        draw = ByteDraw(data)
        lines = [json_line(make(draw), draw) for _ in range(ROWS)]
        (folder / "rows.jsonl").write_bytes(b"\n".join(lines) or b"\n")
        return kind, folder / "rows.jsonl"

    return write


def _column_writer(case: str) -> Callable[[Path, bytes], tuple[str, Path]]:
    def write(folder: Path, data: bytes) -> tuple[str, Path]:
        import pyarrow.parquet as pq

        kind, table = COLUMNS[case](ByteDraw(data), ROWS)
        pq.write_table(table, folder / "rows.parquet")
        return kind, folder / "rows.parquet"

    return write


def _byte_writer(kind: str) -> Callable[[Path, bytes], tuple[str, Path]]:
    draw = ByteDraw(b"")
    make = next(make for named, make in LINES.values() if named == kind)
    good = [json.dumps(make(draw)).encode() for _ in range(2 * ROWS)]

    def write(folder: Path, data: bytes) -> tuple[str, Path]:
        *lines, rest = data.split(b"\n", 1)
        odd = [*lines, rest.replace(b"\n", b" ")]
        (folder / "rows.jsonl").write_bytes(b"\n".join([*good[:ROWS], *odd, *good[ROWS:]]))
        return kind, folder / "rows.jsonl"

    return write


def seeds(group: str, folder: Path) -> list[str]:
    """A folder of good lines to begin with, where the fuzzer writes the lines itself."""
    form, _, wanted = group.partition("/")
    if form != "bytes":
        return []
    place = folder / "seeds"
    place.mkdir()
    for case, (kind, make) in LINES.items():
        for index in range(20 if kind == wanted else 0):
            draw = random.Random(index)
            rows = [make(draw) for _ in range(1 + index % 3)]
            data = b"\n".join(json.dumps(row, ensure_ascii=index % 2 == 0).encode() for row in rows)
            (place / f"{case}-{index}").write_bytes(data)
    return [str(place)]


if __name__ == "__main__":
    main()
