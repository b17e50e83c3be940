"""The record of a training's steps, gone on with after a kill."""

from pathlib import Path

import pytest

from schemas.errors import DataError
from stages.training.monitoring.metrics import METRICS_JSONL, MetricsLog


def test_a_half_written_line_is_dropped_and_a_damaged_one_refused(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, None)
    for step in range(3):
        log.append({"step": step, "loss": 0.5})
    log.close()
    path = tmp_path / METRICS_JSONL
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"step": 3, "lo')
    again = MetricsLog(tmp_path, 2)
    again.close()
    assert [row["step"] for row in again.rows] == [0, 1, 2]
    for damaged in (b"\xff", b"{", b"[1]", b'{"stap": 1}'):
        path.write_bytes(damaged + b"\n" + whole)
        with pytest.raises(DataError, match=r"line 1 is damaged; remove"):
            MetricsLog(tmp_path, 2)


def test_the_digest_is_that_of_the_rows_and_of_nothing_else(tmp_path: Path) -> None:
    """Whether they were written just now or read back; speed and memory do not belong to it."""
    log = MetricsLog(tmp_path, None)
    nothing = log.digest()
    for step in range(3):
        log.append({"step": step, "loss": 0.1 * step, "tokens_per_second": 7.0 + step})
    log.close()
    assert log.digest() != nothing
    again = MetricsLog(tmp_path, 2, log.digest())
    again.append({"step": 3, "loss": 0.5})
    again.close()
    changed = (tmp_path / METRICS_JSONL).read_text().replace("7.0", "9.0")
    (tmp_path / METRICS_JSONL).write_text(changed)
    MetricsLog(tmp_path, 3, again.digest()).close()
    (tmp_path / METRICS_JSONL).write_text(changed.replace('"loss": 0.5', '"loss": 0.6'))
    with pytest.raises(DataError, match="damaged since it was written"):
        MetricsLog(tmp_path, 3, again.digest())
