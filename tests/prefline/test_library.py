"""The library: the commands' work on frames of any kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import prefline as pf

SCORES = {
    "prompt_id": ["a", "b", "c", "d", "e"],
    "score": [1.0, 1.0, 0.0, 0.5, None],
}
FRAMES: dict[str, Callable[[Any], Any]] = {
    "polars": lambda data: pl.DataFrame(data),
    "lazy": lambda data: pl.LazyFrame(data),
    "pandas": lambda data: pd.DataFrame(data),
    "arrow": lambda data: pa.table(data),
    "rows": lambda data: pl.DataFrame(data).to_dicts(),
}
PAIRS = {
    "prompt": ["Q1?", "Q2?"],
    "response_1": ["a longer answer", "x"],
    "response_2": ["short", "yes, longer"],
    "winner": ["1", "tie"],
}


@pytest.mark.parametrize("kind", FRAMES)
def test_a_win_rate_of_scores(kind: str) -> None:
    found = pf.win_rate(FRAMES[kind](SCORES))
    assert found.rate is not None
    assert found.rate == pytest.approx(2.5 / 4)
    assert (found.n, found.wins, found.ties, found.losses, found.unscored) == (4, 2, 1, 1, 1)
    assert 0 <= found.ci_low < found.rate < found.ci_high <= 1
    assert found.conclusion == "cannot tell"


def test_rows_of_one_prompt_count_once() -> None:
    frame = pl.DataFrame({"prompt_id": ["a", "a", "b"], "score": [1, 0, 1]})
    found = pf.win_rate(frame)
    assert (found.n, found.rate) == (2, 0.75)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"prompt_id": ["a"], "points": [1]}, "column 'score' missing; found prompt_id, points"),
        ({"score": [1]}, "column 'prompt_id' missing; found score"),
        ({"verdict": ["A"], "judge": ["x"]}, "columns 'comparison_id', 'prompt_id', 'order'"),
        ({"prompt_id": ["a"], "score": [2.0]}, r"row 0: score is 2.0, must be between 0 and 1"),
        ({"prompt_id": ["a"], "score": ["won"]}, "row 0: score is 'won'"),
    ],
)
def test_a_frame_that_cannot_be_is_a_prefline_error(data: Any, said: str) -> None:
    with pytest.raises(pf.DataError, match=said):
        pf.win_rate(pl.DataFrame(data))


@pytest.mark.parametrize("kind", FRAMES)
def test_pairs_are_judged_and_the_verdicts_make_a_win_rate(kind: str) -> None:
    pairs = pf.read_pairs(FRAMES[kind](PAIRS))
    assert pairs["label"].to_list() == ["A", "Tie"]
    verdicts = pf.judge(pairs, "length")
    assert verdicts.height == 4
    found = pf.win_rate(verdicts)
    assert (found.n, found.wins, found.losses) == (2, 1, 1)
    assert pf.win_rate(verdicts.to_pandas()).rate == found.rate
    with pytest.raises(pf.ConfigError, match="no verdicts by 'other', only by length"):
        pf.win_rate(verdicts, judge="other")


def test_pairs_without_two_answers_name_what_is_there() -> None:
    with pytest.raises(pf.DataError, match=r"row 0: no columns with two answers.*found prompt"):
        pf.read_pairs(pl.DataFrame({"prompt": ["q"]}))


def test_frames_of_outputs_are_compared(tmp_path: Path) -> None:
    questions = [f"Question {i}?" for i in range(6)]
    short = pl.DataFrame({"prompt": questions, "output": [f"s{i}" for i in range(6)]})
    longer = pd.DataFrame({"prompt": questions, "output": [f"longer {i}" for i in range(6)]})
    found = pf.compare(short, longer, judge="length", prompts=questions, run_dir=tmp_path / "run")
    rows = {row["name"]: row for row in found["rows"]}
    assert (found["baseline"], rows["b"]["win_rate"], rows["b"]["n"]) == ("a", 1, 6)


def test_a_recipe_runs(tmp_path: Path) -> None:
    answers = tmp_path / "o.jsonl"
    answers.write_text('{"prompt": "q", "outputs": ["one", "two more"]}\n')
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f'name = "r"\n[judge]\nkind = "length"\n[sample]\noutputs = ["{answers}"]\n'
        '[label]\ntruncated = "keep"\n'
    )
    done = pf.run(recipe, tmp_path / "run")
    assert done.table("label/preference_pairs").height == 1
    with pytest.raises(pf.MissingInputError, match="the run has no such table"):
        done.table("label/other")


# The tutorial's words


def gravity() -> pf.Comparison:
    return pf.Comparison(
        [{"role": "user", "content": "Explain gravity in one sentence."}],
        [{"role": "assistant", "content": "Gravity is the force that attracts."}],
        [{"role": "assistant", "content": "Gravity is like magnets."}],
    )


def test_swapping_twice_is_nothing() -> None:
    labelled = pf.LabeledComparison(gravity(), "A")
    assert labelled.swap().label == "B"
    assert labelled.swap().swap() == labelled
    with pytest.raises(pf.DataError, match="must be A, B or Tie"):
        pf.LabeledComparison(gravity(), "C")  # type: ignore[arg-type]


def test_a_comparison_is_rendered_up_to_the_label() -> None:
    text = pf.render_comparison(gravity())
    parts = [
        "User: Explain gravity in one sentence.",
        "==== Completion A ====",
        "Gravity is the force that attracts.",
        "==== Completion B ====",
        "Gravity is like magnets.",
        "==== Preference ====",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.rstrip().endswith("Assistant:")


@pytest.mark.parametrize(
    ("beta", "loss", "margin"),
    [(0.05, 0.662405, 0.0625), (0.1, 0.632677, 0.125), (0.5, 0.430474, 0.625)],
)
def test_the_loss_of_four_tensors(beta: float, loss: float, margin: float) -> None:
    chosen = torch.tensor([-2.0, -1.5], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([-3.0, -4.0]).double()
    ref_c, ref_r = torch.tensor([-2.5, -2.0]).double(), torch.tensor([-2.5, -3.0]).double()
    found = pf.dpo_loss(chosen, rejected, ref_c, ref_r, beta=beta)
    assert found.item() == pytest.approx(loss, abs=1e-6)
    [gradient] = torch.autograd.grad(found, chosen)
    assert (gradient < 0).all()
    metrics = pf.dpo_metrics(chosen.detach(), rejected, ref_c, ref_r, beta=beta)
    assert metrics["margin"] == pytest.approx(margin)
    assert metrics["accuracy"] == 1


def test_a_policy_that_is_its_reference_has_the_loss_of_a_coin() -> None:
    zeros = torch.zeros(3)
    assert pf.dpo_loss(zeros, zeros, zeros, zeros).item() == pytest.approx(0.693147, abs=1e-6)
    with pytest.raises(pf.DataError, match="four tensors of one shape"):
        pf.dpo_loss(zeros, zeros, zeros, torch.zeros(2))


def test_a_recipe_may_be_a_tree_of_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"kind": "food", "people": 10, "comparisons": 40}
    tree: dict[str, Any] = {"name": "mine", "ingest": {"datasets": [data]}}
    tree["judge"] = {"kind": "length", "max_card_comparisons": None}
    done = pf.run(tree, settings=["ingest.seed=4"])
    assert done.directory == Path("runs/mine")
    assert done.table("ingest/prompts").height > 0
    kept = (done.directory / "recipe.toml").read_text()
    assert "seed = 4" in kept
    assert 'max_card_comparisons = "null"' in kept, "whose default is a number"
    with pytest.raises(pf.ConfigError, match="name: missing"):
        pf.run({"ingest": {"datasets": [data]}})
    assert [path.name for path in Path("runs").iterdir()] == ["mine"]
