"""The fast way and the plain one come to the same rows, rejects, ids and order."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.ingest.readers import pieces
from tests.fixtures.byte_draw import ByteDraw
from tests.fixtures.equals_plain import (
    COLUMNS,
    LINES,
    check_columns,
    check_lines,
    check_readings,
)
from tests.fixtures.raw_cases import json_line

# Many more: tests/benchmarks/fuzz_ingest.py.
SETTINGS = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("case", LINES)
@SETTINGS
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 60))
def test_lines(tmp_path: Path, case: str, seed: int, rows: int) -> None:
    check_lines(tmp_path / f"{case}-{seed}-{rows}", case, seed, rows)


@pytest.mark.parametrize("case", COLUMNS)
@SETTINGS
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 60))
def test_columns(tmp_path: Path, case: str, seed: int, rows: int) -> None:
    check_columns(tmp_path / f"{case}-{seed}-{rows}", case, seed, rows)


@pytest.mark.parametrize("case", LINES)
def test_rows_made_of_no_bytes_are_good(tmp_path: Path, case: str) -> None:
    """What a fuzzer starts from is sound, so that it finds its way past the first check."""
    kind, make = LINES[case]
    draw = ByteDraw(b"")
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(json_line(make(draw), draw) for _ in range(3)))
    assert check_readings(kind, tmp_path / "rows.jsonl") == (3, 0)


@pytest.mark.parametrize(
    ("case", "least"), [("hh", 0.25), ("texts", 0.35), ("transcripts", 0.25), ("conversations", 0)]
)
def test_made_up_rows_go_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, least: float
) -> None:
    """Two ways that are one and the same would always agree."""
    taken: list[int] = []
    plain = pieces.split_outcomes

    def counted(outcomes: Sequence[tuple[int, pieces.Outcome]]) -> pieces.Readings:
        taken.extend({row for row, _ in outcomes})
        return plain(outcomes)

    kind, make = LINES[case]
    draw = random.Random(0)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(json_line(make(draw), draw) for _ in range(400)))
    check_readings(kind, path)
    monkeypatch.setattr(pieces, "split_outcomes", counted)
    kept = check_readings(kind, path)[0]
    assert kept >= 200
    assert len(set(taken)) <= (1 - least) * 400
