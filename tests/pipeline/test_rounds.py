"""Iterative training through the command line, on the tiny recipe."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.recipe import load_recipe
from pipeline.runs.rounds import round_recipe, rounds_of, stages_of
from pipeline.runs.run import Run
from schemas.errors import ConfigError
from schemas.manifest import Manifest, read_manifest
from tests.fixtures.command_line import TINY, Done, on, prefline, refusal

# Every sampled text is compared, so that each round has pairs enough.
ROUNDS = ("rounds.n=3", "rounds.reference=first", "rounds.mix_earlier_pairs=true")
EASY = ("label.truncated=keep",)


def manifest(directory: Path) -> Manifest:
    found = read_manifest(directory)
    assert found is not None
    return found


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three rounds; not to be changed."""
    run_dir = tmp_path_factory.mktemp("rounds") / "run"
    done = prefline(*on(run_dir, "run", *ROUNDS, *EASY))
    assert done.returncode == 0, done.stderr
    return run_dir


def again(run_dir: Path, *more: str) -> Done:
    return prefline(*on(run_dir, "run", *ROUNDS, *EASY, *more))


def test_a_later_round_samples_what_the_one_before_has_trained(three: Path) -> None:
    policies = [
        {row["policy"] for row in rows(three / folder / "sample/completions.parquet")}
        for folder in ("", "round-2", "round-3")
    ]
    assert all(len(found) == 1 for found in policies)
    assert len(set.union(*policies)) == 3
    trained = manifest(three / "train").outputs["model/model.safetensors"].sha256
    read = manifest(three / "round-2" / "sample").payload["inputs"]["sft"]
    assert read["model/model.safetensors"] == trained


def test_a_later_round_reads_data_and_judge_of_the_first(three: Path) -> None:
    assert {p.name for p in (three / "round-2").iterdir() if p.is_dir() and p.name[0] != "."} == {
        "sample", "label", "train", "evaluate", "report",
    }  # fmt: skip
    baselines = [
        {r["policy"] for r in rows(three / f / "evaluate/completions_baseline.parquet")}
        for f in ("", "round-2", "round-3")
    ]
    assert baselines[0] == baselines[1] == baselines[2]


def test_the_reference_may_stay_that_of_the_first_round(three: Path) -> None:
    references = [
        json.loads((three / folder / "train" / "summary.json").read_text())["reference"]
        for folder in ("", "round-2", "round-3")
    ]
    assert references[0] == references[1] == references[2]


def test_pairs_of_earlier_rounds_are_mixed_in(three: Path) -> None:
    made = [manifest(three / f / "label").counts["pairs"] for f in ("", "round-2", "round-3")]
    read = [manifest(three / f / "train").counts["rows_in"] for f in ("", "round-2", "round-3")]
    assert read == [made[0], sum(made[:2]), sum(made)]


def test_the_second_run_of_all_rounds_does_nothing(three: Path) -> None:
    done = again(three)
    assert done.returncode == 0, done.stderr
    outcomes = [line for line in done.stderr.splitlines() if ": " in line]
    assert len(outcomes) == 8 + 2 * 5
    assert all(line.endswith("up to date") for line in outcomes)


def test_status_tells_of_every_round(three: Path) -> None:
    done = prefline(*on(three, "status", *ROUNDS, *EASY), "--json")
    states = json.loads(done.stdout)
    assert set(states) >= {"ingest", "train", "round-2/train", "round-3/report"}
    assert {found["state"] for found in states.values()} == {"fresh"}


def test_a_change_in_round_one_makes_every_later_round_stale(three: Path) -> None:
    changed = (*ROUNDS, *EASY, "train.loss.kind=sigmoid", "train.loss.beta=0.5")
    states = json.loads(prefline(*on(three, "status", *changed), "--json").stdout)
    assert states["sample"]["state"] == "fresh"
    stale = [name for name, found in states.items() if found["state"] == "stale"]
    assert {"train", "round-2/sample", "round-3/sample", "round-3/report"} <= set(stale)
    line = refusal(prefline(*on(three, "train", *changed), "--round", "3"))
    assert "--round 2" in line


def test_what_every_round_shares_has_no_round_of_its_own(three: Path) -> None:
    line = refusal(prefline(*on(three, "ingest", *ROUNDS, *EASY), "--round", "2"))
    assert "leave --round out" in line


def test_a_pair_of_any_round_is_traced_to_its_raw_row(three: Path) -> None:
    pair = rows(three / "round-3" / "label" / "preference_pairs.parquet")[0]
    for where in (three, three / "round-3"):
        done = prefline("trace", pair["pair_id"], "--run-dir", where, "--json")
        steps = json.loads(done.stdout)
        assert steps[0]["row"]["pair_id"] == pair["pair_id"]
        assert [s["table"] for s in steps if "prompts" in s.get("table", "")]
        assert steps[-1]["raw"] == pair["file"]


def test_rounds_end_where_the_held_out_win_rate_falls(three: Path, tmp_path: Path) -> None:
    later = shutil.ignore_patterns("round-*", "dev")
    shutil.copytree(three, tmp_path / "run", ignore=later)
    done = again(tmp_path / "run", "rounds.stop_when_falls=judge")
    assert done.returncode == 0, done.stderr
    folders = ("", "round-2", "round-3")
    files = [tmp_path / "run" / f / "dev/evaluate/win_rates.json" for f in folders]
    made = [json.loads(path.read_text()) for path in files if path.exists()]
    values = [found["judge"]["headline"]["value"] for found in made]
    assert len(values) >= 2
    falls = [k for k in range(1, len(values)) if values[k] < values[k - 1]]
    last = falls[0] + 1 if falls else 3
    assert (tmp_path / "run" / f"round-{last}" / "report").exists()
    assert (tmp_path / "run" / f"round-{last + 1}").exists() is False
    assert ("no further round" in done.stderr) is bool(falls)


def test_the_last_report_shows_all_rounds(three: Path) -> None:
    summary = json.loads((three / "round-3" / "report" / "summary.json").read_text())
    assert [found["round"] for found in summary["rounds"]] == [1, 2, 3]
    for folder, found in zip(("", "round-2", "round-3"), summary["rounds"], strict=True):
        rates = json.loads((three / folder / "evaluate" / "win_rates.json").read_text())
        for by in ("judge", "truth"):
            assert found[by]["value"] == rates[by]["headline"]["value"]
        assert found["gap"] == pytest.approx(found["judge"]["value"] - found["truth"]["value"])
    page = (three / "round-3" / "report" / "index.html").read_text()
    assert "Win rate by round" in page


def test_a_first_round_alone_has_no_rounds_to_show(finished: Path) -> None:
    summary = json.loads((finished / "report" / "summary.json").read_text())
    assert summary["rounds"] == []


def test_a_model_named_by_the_recipe_is_only_the_start_of_the_first_round(tmp_path: Path) -> None:
    recipe = load_recipe(
        TINY, ["rounds.n=2", "sample.model.path=start", "train.model.path=start", "sample.seed=5"]
    )
    second = round_recipe(recipe, 2)
    sample: Any = second.stages["sample"]
    train: Any = second.stages["train"]
    evaluate: Any = second.stages["evaluate"]
    assert sample.model is None
    assert sample.seed == 6
    assert train.model is None
    assert train.reference is None
    assert evaluate.baseline.path == "start"
    kept = load_recipe(TINY, ["rounds.n=2", "rounds.reference=first", "train.model.path=start"])
    held: Any = round_recipe(kept, 2).stages["train"]
    assert held.reference.path == "start"


def test_rounds_need_what_they_repeat(tmp_path: Path) -> None:
    text = TINY.read_text().replace("[label]\npairs", "[rounds]\nn = 2\n[spare]\npairs")
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"rounds: .*\[label\] is missing"):
        load_recipe(path)


def test_one_round_is_the_run_itself() -> None:
    first = Run(Path("somewhere"), load_recipe(TINY))
    assert rounds_of(first) == [first]
    assert next(stage.name for stage in stages_of(2)) == "sample"
