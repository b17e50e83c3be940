"""Detectors: each finds what it is for, and is silent on ordinary outputs, real ones too."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from evals.win_rate import detectors
from evals.win_rate.lengths import LengthSample, length_overlap

SENTENCE = "the quick brown fox jumps over a lazy dog while seven wizards brew strong black tea"


def ordinary(n: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(SENTENCE.split(), size=12)) for _ in range(n)]


def verdict(prompt: str, order: str) -> dict[str, str]:
    return {"prompt_id": prompt, "order": order}


def test_ordinary_outputs_raise_nothing() -> None:
    texts = ordinary(100)
    assert detectors.constant_outputs("policy", texts) is None
    assert detectors.empty_outputs("policy", texts) is None
    assert detectors.judge_markers("policy", texts) is None
    assert detectors.truncated_outputs("policy", ["stop"] * 99 + ["length"]) is None


def test_one_text_for_most_prompts_is_constant() -> None:
    found = detectors.constant_outputs("policy", ["same  "] * 30 + ["same"] * 30 + ordinary(40))
    assert found is not None
    assert found.numbers["most_common_share"] == 0.6
    assert found.numbers["distinct"] < 42
    assert detectors.constant_outputs("policy", ["same"] * 9) is None


def test_one_template_with_a_changing_word_is_constant() -> None:
    template = " ".join([SENTENCE] * 3)
    found = detectors.constant_outputs("policy", [f"{template} {i}" for i in range(20)])
    assert found is not None
    assert found.numbers["median_overlap"] > 0.8
    assert found.numbers["most_common_share"] == 0.05


def test_one_length_stands_for_one_text() -> None:
    assert detectors.constant_lengths("policy", [*range(100)]) is None
    found = detectors.constant_lengths("policy", [872] * 80 + [*range(20)])
    assert found is not None
    assert found.numbers["most_common_length"] == 872


def test_empty_and_truncated_are_counted() -> None:
    empty = detectors.empty_outputs("baseline", ["", " \n", "text"])
    assert empty is not None
    assert (empty.numbers["count"], empty.numbers["n"]) == (2, 3)
    cut = detectors.truncated_outputs("policy", ["length", "stop"])
    assert cut is not None
    assert cut.numbers["share"] == 0.5
    assert detectors.truncated_outputs("policy", []) is None


@pytest.mark.parametrize(
    "text",
    [
        "[[A]] is better",
        "Preference: A",
        "==== Completion B ====",
        "<|im_start|>assistant",
        '"model_identifier": "m",',
        "## Model Outputs",
    ],
)
def test_markers_are_found(text: str) -> None:
    assert detectors.judge_markers("policy", [*ordinary(20), text]) is not None


def test_families() -> None:
    found = detectors.same_family("Qwen/Qwen3-8B", "qwen2.5-0.5b-dpo")
    assert found is not None
    assert found.numbers["family"] == "qwen"
    assert detectors.same_family("gpt-4o", "text_davinci_003") is not None
    assert detectors.same_family("gpt-4o", "claude-2") is None
    assert detectors.same_family("graphite", "philosophy") is None
    assert detectors.same_family("", "") is None


def test_thin_overlap_is_named() -> None:
    lengths = np.linspace(10, 20, 30)
    thin = length_overlap(LengthSample(np.ones(30), lengths, 5 * lengths))
    found = detectors.thin_length_overlap(thin)
    assert found is not None
    assert found.numbers["share_of_like_length"] == 0
    alike = length_overlap(LengthSample(np.ones(30), lengths, lengths))
    assert detectors.thin_length_overlap(alike) is None


def test_order_imbalance_is_by_category() -> None:
    categories = {f"p{i}": "odd" if i < 100 else "even" for i in range(200)}
    rows = [verdict(f"p{i}", "ab" if i < 70 or i % 2 else "ba") for i in range(200)]
    found = detectors.order_imbalance(rows, categories)
    assert found is not None
    assert set(found.numbers) == {"odd"}
    both = [verdict(f"p{i}", order) for i in range(50) for order in ("ab", "ba")]
    assert detectors.order_imbalance(both, categories) is None


def test_the_null_model_is_flagged_and_real_models_are_not(real_data: Path) -> None:
    rows = pq.read_table(real_data / "alpacaeval2" / "outputs.parquet").to_pylist()
    outputs: dict[str, list[str]] = {}
    for row in rows:
        outputs.setdefault(row["model"], []).append(row["output_model"])
    null = outputs.pop("NullModel")
    assert detectors.constant_outputs("policy", null) is not None
    assert detectors.judge_markers("policy", null) is not None
    assert outputs
    for texts in outputs.values():
        assert detectors.constant_outputs("policy", texts) is None
        assert detectors.judge_markers("policy", texts) is None
