"""The GPU benchmark of training: what of it a CPU can run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import bench_train_gpu as bench
from tests.benchmarks.training_pairs import num_flops, num_tokens

SCRIPT = Path(bench.__file__)
PAIR = {"prompt": [5, 6, 7], "chosen": [8, 1], "rejected": [9, 9, 9, 1]}


def test_tokens_and_flops_by_hand() -> None:
    shape = {
        "vocab_size": 100,
        "hidden_size": 8,
        "intermediate_size": 10,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
    }
    assert num_tokens([PAIR]) == 9
    layer = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 10
    assert num_flops([PAIR], shape) == 6 * (2 * layer * 9 + 100 * 8 * 6)


@pytest.mark.parametrize("row", bench.OURS)
def test_our_rows_run_on_a_tiny_shape(row: str) -> None:
    pairs = [PAIR] * 9
    found = bench.measure(row, pairs, None, {**bench.TINY, "vocab_size": 50}, "cpu")
    assert found["tokens"] == 9 * 9
    assert found["tokens_per_second"] > 0
    assert found["model_flops_utilisation"] > 0


def test_ratios_are_speed_over_theirs_and_memory_over_theirs() -> None:
    def row(speed: float, memory: float) -> dict[str, float]:
        return {"tokens_per_second": speed, "peak_memory_bytes": memory}

    measured = {"ours_full": row(6, 2), "trl_default_full": row(2, 8), "ours_lora": row(1, 1)}
    assert bench.ratios(measured) == {"full_vs_trl_default": 3, "full_memory_vs_trl_default": 0.25}


def test_a_row_that_fails_or_has_no_time_is_in_the_result_with_the_reason() -> None:
    def said(code: str, seconds: float = 60) -> str:
        return str(bench.answer_of([sys.executable, "-c", code], seconds)["failed"])

    assert said("raise SystemExit('torch.OutOfMemoryError: CUDA out of memory')") == (
        "does not fit the card's memory"
    )
    assert said("raise SystemExit('no such setting')") == "no such setting"
    assert said("print(1)", seconds=1) == "no time was left"
    assert bench.answer_of([sys.executable, "-c", "print('{\"a\": 1}')"], 60) == {"a": 1}
    rows: dict[str, dict[str, Any]] = {
        "ours_full": {"tokens_per_second": 6},
        "trl_best_full": {"failed": "does not fit"},
    }
    assert bench.ratios(rows) == {}
    assert bench.describe("trl_best_full", rows["trl_best_full"]).endswith("does not fit")


def test_without_a_gpu_it_says_so_and_exits_2() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout.count("\n") == 1
    assert "no GPU" in done.stdout
