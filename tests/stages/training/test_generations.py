"""The table of what the policy writes, evaluation by evaluation."""

from pathlib import Path
from typing import Any

import pytest

from schemas.errors import DataError
from schemas.files import write_sealed_json
from schemas.parquet import read_rows
from schemas.parquet import write_table as written_table
from schemas.stage import SilentProgress
from stages.training.config import TrainingConfig
from stages.training.monitoring import generations as module
from stages.training.monitoring.config import GenerationSettings
from stages.training.monitoring.generations import Generations
from stages.training.monitoring.written import GENERATIONS


def _rows(step: int) -> list[dict[str, Any]]:
    said = [{"role": "assistant", "content": f"said at {step}"}]
    row = {"step": step, "prompt": said, "completion": said, "num_tokens": 6, "sum_logps": -3.0}
    row |= {"finish_reason": "stop", "well_formed": None}
    return [row | {"prompt_id": name} for name in "ab"]


class _Scripted(Generations):
    """Without a model."""

    def __init__(self, folder: Path) -> None:
        prompts: list[dict[str, Any]] = []
        more: Any = None
        super().__init__(
            folder, prompts, more, GenerationSettings(), TrainingConfig(), SilentProgress()
        )

    def _complete(self, step: int, model: Any) -> list[dict[str, Any]]:
        return _rows(step)

    def at(self, *steps: int) -> None:
        for step in steps:
            model: Any = None
            self.measure(step, model)


def _expected(*steps: int) -> list[dict[str, Any]]:
    return [row for step in steps for row in _rows(step)]


def _in(folder: Path) -> list[dict[str, Any]]:
    return read_rows(folder / GENERATIONS.file_name, GENERATIONS)


def test_a_row_is_written_a_few_times_however_many_evaluations_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def counting(path: Path, rows: Any) -> None:
        written.append(len(rows))
        write_sealed_json(path, rows)

    monkeypatch.setattr(module, "write_sealed_json", counting)
    table = _Scripted(tmp_path)
    table.at(*range(1, 65))
    assert len(list(tmp_path.iterdir())) <= 7
    assert sum(written) <= 2 * 64 * 7  # each of 128 rows once for every doubling
    table.close()
    assert [path.name for path in tmp_path.iterdir()] == [GENERATIONS.file_name]
    assert _in(tmp_path) == _expected(*range(1, 65))


@pytest.mark.parametrize("stopped", range(1, 9))
def test_a_killed_training_goes_on_with_what_was_written(tmp_path: Path, stopped: int) -> None:
    """Steps after the one it goes on from are forgotten, and written anew."""
    _Scripted(tmp_path).at(*range(1, stopped + 1))
    resumed = _Scripted(tmp_path)
    resumed.begin([{"step": step} for step in range(stopped // 2 + 1)])
    resumed.at(*range(stopped // 2 + 1, 10))
    resumed.close()
    assert [path.name for path in tmp_path.iterdir()] == [GENERATIONS.file_name]
    assert _in(tmp_path) == _expected(*range(1, 10))


@pytest.mark.parametrize(
    "change", [("said at 1", "said at 7"), ('"step": 1', '"step": 2'), ("}", "")]
)
def test_a_changed_word_in_what_a_killed_training_left_is_refused(
    tmp_path: Path, change: tuple[str, str]
) -> None:
    _Scripted(tmp_path).at(1, 2)
    [path] = tmp_path.iterdir()
    path.write_text(path.read_text().replace(*change, 1))
    with pytest.raises(DataError, match=r"generations.*damaged since it was written; remove"):
        _Scripted(tmp_path).begin([{"step": 1}, {"step": 2}])


def test_what_an_earlier_version_left_is_taken_along(tmp_path: Path) -> None:
    written_table(tmp_path / GENERATIONS.file_name, GENERATIONS, _expected(1, 2))
    written_table(tmp_path / "generations.newest.parquet", GENERATIONS, _expected(3))
    resumed = _Scripted(tmp_path)
    resumed.begin([{"step": step} for step in range(4)])
    resumed.close()
    assert [path.name for path in tmp_path.iterdir()] == [GENERATIONS.file_name]
    assert _in(tmp_path) == _expected(1, 2, 3)
