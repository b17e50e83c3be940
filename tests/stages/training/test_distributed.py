"""Ranks of a real torchrun against one process: losses, weights, and each other's checkpoints."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from stages.training.checkpoints.resume import CHECKPOINTS
from stages.training.monitoring.metrics import PERFORMANCE
from tests.fixtures.rank_training import CASES, run_cases
from tests.fixtures.ranks import finished, started, torchrun

Rows = list[dict[str, float]]

# Counts of ties turn on the last bit of a log-probability.
_NOT_COMPARED = {*PERFORMANCE, "rewards/accuracies", "eval_rewards/accuracies"}
_NOT_COMPARED |= {"rewards/tie_rate", "eval_rewards/tie_rate"}
_HALF, _ALL = 4, 8


def on_ranks(count: int, folder: Path, steps: int) -> Path:
    done = finished(
        started(torchrun(count, "tests.fixtures.rank_training", folder, steps), folder / "cache")
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, all steps."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("alone")
    run_cases(folder, _ALL)
    return folder


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks, half the steps."""
    return on_ranks(2, tmp_path_factory.mktemp("two"), _HALF)


def rows_of(folder: Path, case: str) -> Rows:
    rows: Rows = json.loads((folder / "rows.json").read_text())[case]
    return [{k: v for k, v in row.items() if k not in _NOT_COMPARED} for row in rows]


def assert_same_training(folder: Path, alone: Path, case: str) -> None:
    rows, expected = rows_of(folder, case), rows_of(alone, case)
    assert [list(row) for row in rows] == [list(row) for row in expected[: len(rows)]]
    for row, wanted in zip(rows, expected, strict=False):
        low = 300 if CASES[case].low_base else 1  # rounded in another order
        assert row == pytest.approx(wanted, rel=1e-4 * low, abs=1e-4 * low)
        for name in {"loss", "eval_loss"} & row.keys():
            # bfloat16 has eight bits: sums in another order move a loss by thousandths of it.
            within = 5e-3 * wanted[name] if CASES[case].low_base else 1e-5
            assert row[name] == pytest.approx(wanted[name], abs=within)


def assert_same_weights(folder: Path, alone: Path, case: str) -> None:
    weights, expected = (torch.load(f / case / "weights.pt") for f in (folder, alone))
    assert weights.keys() == expected.keys()
    if CASES[case].low_base:
        assert all(torch.allclose(w, expected[n], atol=1e-2) for n, w in weights.items())
        return
    apart = torch.cat([(w - expected[n]).abs().flatten() for n, w in weights.items()])
    # AdamW divides a gradient by its own size: where it is only rounding, as an adapter's first
    # ones are, the step is not. One weight in a thousand may be such a one, and none goes far.
    assert apart.quantile(0.999) <= 1e-4
    assert apart.max() <= 5e-4


def moved(begun: Path, folder: Path) -> Path:
    """What two ranks have left, without their record of rows and weights."""
    shutil.copytree(
        begun, folder, ignore=shutil.ignore_patterns("rank-*", "weights.pt", "rows.json")
    )
    assert {p.name for p in folder.glob(f"*/{CHECKPOINTS}/*")} == {f"step-{_HALF}"}
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_train_as_one_does(begun: Path, alone: Path, case: str) -> None:
    assert len(rows_of(begun, case)) == _HALF + 1
    assert_same_training(begun, alone, case)


def test_what_two_ranks_began_one_process_finishes(
    begun: Path, alone: Path, tmp_path: Path
) -> None:
    folder = moved(begun, tmp_path / "one")
    run_cases(folder, _ALL)
    for case in CASES:
        assert_same_training(folder, alone, case)
        assert_same_weights(folder, alone, case)


def test_what_two_ranks_began_three_ranks_finish(begun: Path, alone: Path, tmp_path: Path) -> None:
    folder = on_ranks(3, moved(begun, tmp_path / "three"), _ALL)
    for case in CASES:
        assert len(rows_of(folder, case)) == _ALL + 1
        assert_same_training(folder, alone, case)
        assert_same_weights(folder, alone, case)
