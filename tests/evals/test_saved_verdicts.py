"""Saved verdicts: every form is read alike, and every broken file is one line."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evals.files.alpaca_eval.orders import hashed_order, preference_from_logprobs
from evals.files.verdicts import read_judged
from evals.win_rate.report import win_rate_report
from evals.win_rate.win_rate import IDENTICAL
from schemas.errors import ConfigError, DataError, MissingInputError, PipelineError
from schemas.labels import Order
from schemas.parquet import write_table
from schemas.results.base import write_result
from schemas.results.win_rates import WinRates
from schemas.tables import VERDICTS
from tests.fixtures.finished_runs import win_rate

Row = dict[str, Any]


def annotation(number: int, preference: float | None, model: str = "m") -> Row:
    return {
        "instruction": f"say {number}",
        "output_1": "x" * (50 + number),
        "output_2": "y" * (90 - number),
        "generator_2": model,
        "preference": preference,
        "dataset": "d",
        "annotator": "weighted_gpt4",
    }


def save(path: Path, rows: Any) -> Path:
    path.write_text(json.dumps(rows))
    return path


def preferences() -> list[float]:
    found: list[float] = (1 + np.random.default_rng(0).uniform(size=40)).round(6).tolist()
    return found


def verdict(prompt: str, judge: str = "j", order: str = "ab", p_a: float = 0.75) -> Row:
    return {
        "comparison_id": f"c-{prompt}",
        "prompt_id": prompt,
        "judge": judge,
        "judge_fingerprint": f"f-{judge}",
        "order": order,
        "p_a": p_a,
        "p_b": 1 - p_a,
        "p_tie": 0.0,
        "label_mass": None,
        "verdict": "A",
        "unscored_reason": None,
        "unscored_detail": None,
        "raw": "",
        "prompt_tokens": None,
        "completion_tokens": None,
    }


def test_json_and_parquet_give_the_same_numbers(tmp_path: Path) -> None:
    rows = [annotation(i, p) for i, p in enumerate(preferences())]
    as_json = save(tmp_path / "annotations.json", rows)
    as_parquet = tmp_path / "annotations.parquet"
    pq.write_table(
        pa.table(
            {
                "model": ["m"] * 40,
                "row_index": range(40),
                "instruction_id": range(40),
                "preference": preferences(),
                "len_baseline": [len(r["output_1"]) for r in rows],
                "len_model": [len(r["output_2"]) for r in rows],
                "baseline_shown_first": [hashed_order(r["instruction"]) is Order.BA for r in rows],
            }
        ),
        as_parquet,
    )
    one, other = (win_rate_report(read_judged(path)).to_json() for path in (as_json, as_parquet))
    for name in ("n", "win_rate", "standard_error", "discrete_win_rate", "position"):
        assert one[name] == other[name]
    # The bootstrap meets the prompts in another order.
    for name in ("win_rate", "overlap", "n"):
        assert one["length_controlled"][name] == pytest.approx(other["length_controlled"][name])


def test_the_order_of_the_rows_changes_no_bit(tmp_path: Path) -> None:
    rows = [annotation(i, p) for i, p in enumerate(preferences())]
    forth = win_rate_report(read_judged(save(tmp_path / "a.json", rows))).to_json()
    back = win_rate_report(read_judged(save(tmp_path / "b.json", rows[::-1]))).to_json()
    assert json.dumps(forth) == json.dumps(back)


def test_ties_failures_and_identical_outputs(tmp_path: Path) -> None:
    same = annotation(6, 1.5) | {"output_1": "same", "output_2": "same"}
    values = [0, 1.5, None, -1, math.nan, 2]
    rows = [*(annotation(i, p) for i, p in enumerate(values)), same]
    judged = read_judged(save(tmp_path / "annotations.json", rows))
    found = win_rate_report(judged).to_json()
    assert (found["n"], found["n_ties"], found["n_wins"], found["n_unscored"]) == (4, 3, 1, 3)
    assert found["unscored_reasons"] == {"no_preference": 3}
    assert found["n_identical"] == 1
    assert sum(row["raw"] == IDENTICAL for row in judged.verdicts) == 1


def test_logprobs_prove_the_order(tmp_path: Path) -> None:
    """The token m names the output shown first."""
    top = [{"token": "m", "logprob": math.log(0.8)}, {"token": "M", "logprob": math.log(0.2)}]
    raw = {"raw_completion": {"logprobs": {"content": [{"top_logprobs": top}]}}}
    rows = [annotation(0, 1.8) | raw, annotation(1, 1.2) | raw]
    judged = read_judged(save(tmp_path / "annotations.json", rows))
    orders = {row["p_a"] > 0.5: row["order"] for row in judged.verdicts}
    assert orders == {True: "ab", False: "ba"}


def test_missing_logprobs_have_no_share() -> None:
    assert preference_from_logprobs(-0.1, None, model_first=True) == 2
    assert preference_from_logprobs(None, -0.1, model_first=True) == 1
    assert preference_from_logprobs(None, -900.0, model_first=False) == 2
    assert preference_from_logprobs(None, None, model_first=True) is None


def test_a_run_s_own_table_names_its_judge(tmp_path: Path) -> None:
    rows = [verdict(f"p{i}", judge) for i in range(4) for judge in ("j", "k")]
    path = tmp_path / "verdicts.parquet"
    write_table(path, VERDICTS, rows)
    with pytest.raises(ConfigError, match="--judge: j, k"):
        read_judged(path)
    assert {r["judge"] for r in read_judged(path, judge="j").verdicts} == {"j"}
    rates = WinRates({"judge": win_rate("k", 0.75, 0.5, 1.0, 4)})
    write_result(tmp_path / "win_rates.json", rates)
    assert {r["judge"] for r in read_judged(path).verdicts} == {"k"}
    found = win_rate_report(read_judged(path)).to_json()
    assert found["win_rate"] == 0.75
    assert found["length_controlled"]["win_rate"] is None
    assert "lengths are known" in found["length_controlled"]["reason"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "not a list"),
        ("[]", "not a list"),
        ("[1]", "row 0: instruction is missing"),
        (json.dumps([annotation(0, 2), {"instruction": "x"}]), "row 1: output_1 is missing"),
        (json.dumps([annotation(0, 3)]), "row 0: preference is 3"),
        (json.dumps([annotation(0, 1) | {"preference": "m"}]), "row 0: preference is 'm'"),
        (json.dumps([annotation(0, 1) | {"output_2": None}]), "row 0: output_2 is not a text"),
        (json.dumps([annotation(0, 1)] * 2), "rows 0 and 1 are of one instruction"),
    ],
)
def test_broken_json_is_one_line(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        read_judged(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_other_broken_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        read_judged(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(DataError, match="not a Parquet file"):
        read_judged(tmp_path / "text.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="not a verdicts table"):
        read_judged(tmp_path / "other.parquet")


def test_difficulties_must_be_there_for_every_instruction(tmp_path: Path) -> None:
    path = save(tmp_path / "annotations.json", [annotation(i, 1.2) for i in range(3)])
    instructions = tmp_path / "instructions.parquet"
    known = {"instruction_id": [0, 1], "instruction": ["say 0", "say 1"]}
    pq.write_table(pa.table({**known, "instruction_difficulty": [0.0, 1.0]}), instructions)
    with pytest.raises(DataError, match="no difficulty for row 2"):
        read_judged(path, instructions=instructions)
    with pytest.raises(PipelineError, match="--instructions"):
        read_judged(path, calibration=tmp_path)
    with pytest.raises(ConfigError, match="not in the file"):
        read_judged(path, model="other")


def test_a_model_may_stand_on_either_side(tmp_path: Path) -> None:
    rows = [annotation(i, p) | {"generator_1": "base"} for i, p in enumerate(preferences())]
    exchanged = [
        row
        | {"generator_1": "m", "generator_2": "base", "preference": 3 - row["preference"]}
        | {"output_1": row["output_2"], "output_2": row["output_1"]}
        for row in rows
    ]
    as_published = read_judged(save(tmp_path / "a.json", rows), model="m")
    for name, mixed in (("b", exchanged), ("c", rows[:20] + exchanged[20:])):
        found = read_judged(save(tmp_path / f"{name}.json", mixed), model="m")
        assert found.policy_model == "m"
        assert found.lengths == as_published.lengths
        for one, other in zip(found.verdicts, as_published.verdicts, strict=True):
            assert one["p_a"] == pytest.approx(other["p_a"])
            assert one["prompt_id"] == other["prompt_id"]


def test_a_baseline_measured_against_itself_is_read_once(tmp_path: Path) -> None:
    rows = [annotation(i, 1.5, "base") | {"generator_1": "base"} for i in range(20)]
    found = read_judged(save(tmp_path / "a.json", rows), model="base")
    assert len(found.verdicts) == 20


def test_rounding_outside_the_range_is_forgiven(tmp_path: Path) -> None:
    rows = [annotation(0, 2.0000000000000004), annotation(1, 1 - 1e-12)]
    found = read_judged(save(tmp_path / "a.json", rows))
    assert [row["p_a"] for row in found.verdicts] == [1.0, 0.0]
    with pytest.raises(DataError, match=r"row 0: preference is 2\.001"):
        read_judged(save(tmp_path / "b.json", [annotation(0, 2.001)]))
