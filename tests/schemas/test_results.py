"""Results in JSON: read as they were written, by older and newer versions too, or refused."""

import json
from pathlib import Path

import pytest

from schemas.errors import DataError, MissingInputError
from schemas.results.base import Estimate, read_result, write_result
from schemas.results.judge_card import JudgeCard
from schemas.results.win_rates import WinRates
from tests.fixtures.finished_runs import card, win_rate


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    rates = WinRates({"judge": win_rate("j", 0.7, 0.6, 0.8, 90)})
    write_result(tmp_path / "win_rates.json", rates)
    assert read_result(tmp_path / "win_rates.json", WinRates) == rates
    assert not list(tmp_path.glob("*.writing"))


def test_keys_of_other_versions_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    found = card().to_json() | {"of_tomorrow": 1}
    del found["flip_rate"]  # of a version that had none
    path.write_text(json.dumps(found))
    assert read_result(path, JudgeCard) == card()


def test_a_file_that_is_none_is_refused_by_name_and_key(tmp_path: Path) -> None:
    path = tmp_path / "win_rates.json"
    with pytest.raises(MissingInputError, match=r"win_rates\.json: missing"):
        read_result(path, WinRates)
    path.write_text('{"judge": {"judge": "j", "n": "many"}}')
    with pytest.raises(DataError, match=r"win_rates\.json: judge\.n: "):
        read_result(path, WinRates)
    path.write_text('{"judge": ')
    with pytest.raises(DataError, match=r"win_rates\.json: not JSON"):
        read_result(path, WinRates)


def test_no_number_is_no_result() -> None:
    with pytest.raises(ValueError, match="finite"):
        Estimate(value=float("nan"))


def test_every_number_of_the_card_has_one_label() -> None:
    labels = [label for label, _ in card().shown().values()]
    assert len(labels) == len(set(labels))
    assert "Cohen's kappa" in labels
