"""The fast way and the plain one come to the same rows, rejects, ids and order."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures.equals_plain import COLUMNS, LINES, check_columns, check_lines

SETTINGS = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
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
