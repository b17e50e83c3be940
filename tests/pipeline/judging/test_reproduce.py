"""prefline reproduce: published numbers come out, and where they do not the exit code says so."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli import app

WINNERS = {"swap = False": "1122211", "swap = True": "1121211"}
LABELS = [1, 1, 2, 2, 1, 1, 1]
STATISTICS = {
    "correct_False": "6 / 7 = 85.71428571428571%",
    "correct_True": "5 / 7 = 71.42857142857143%",
    "correct_average": "78.57142857142857%",
    "correct_both": "5 / 7 = 71.42857142857143%",
    "equal": "6 / 7 = 85.71428571428571%",
    "kappa_agreement": 0.6956521739130435,
}


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["reproduce", *map(str, words)])


def llmbar(root: Path, **changed: Any) -> Path:
    """A judge on seven pairs, as LLMBar's repository holds one."""
    folder = root / "copy" / "Dataset" / "LLMBar" / "Natural" / "evaluators" / "J" / "Vanilla"
    folder.mkdir(parents=True)
    rows = [
        {
            "label": label,
            "results": [{side: {"winner": said[i]} for side, said in WINNERS.items()}],
        }
        for i, label in enumerate(LABELS)
    ]
    (folder / "result.json").write_text(json.dumps(rows))
    (folder / "statistics.json").write_text(json.dumps(STATISTICS | changed))
    return root / "copy"


def test_what_was_published_comes_out(tmp_path: Path) -> None:
    done = run("llmbar", llmbar(tmp_path), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["n"], found["beyond"]) == (len(STATISTICS), 0)
    named = {row["what"]: row for row in found["numbers"]}
    assert named["correct_False"]["ours"] == pytest.approx(600 / 7)
    assert named["correct_False"]["group"] == "Natural J/Vanilla"
    # Both say 1 five and four times of seven, 2 the rest: (6/7 - 26/49) / (1 - 26/49).
    assert named["kappa_agreement"]["ours"] == pytest.approx((42 - 26) / (49 - 26))


def test_a_number_that_does_not_come_out_is_exit_1(tmp_path: Path) -> None:
    folder = llmbar(tmp_path, equal="7 / 7 = 100.0%")
    done = run("llmbar", folder)
    assert done.exit_code == 1
    assert "equal" in done.stdout
    assert "5 of 6 published numbers reproduced" in done.stdout
    assert run("llmbar", folder, "--tolerance", 20).exit_code == 0


def test_a_git_directory_is_read_as_it_is(tmp_path: Path) -> None:
    folder = llmbar(tmp_path)
    bare = tmp_path / "bare"
    person = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (
        ["init", "-q", str(folder)],
        ["-C", str(folder), "add", "-A"],
        ["-C", str(folder), *person, "commit", "-q", "-m", "x"],
        ["clone", "-q", "--bare", str(folder), str(bare)],
    ):
        subprocess.run(["git", *words], check=True, capture_output=True)
    assert run("llmbar", bare, "--json").stdout == run("llmbar", folder, "--json").stdout


def test_people_s_kappas_and_counts(tmp_path: Path) -> None:
    """Published numbers are of 999 pairs: three pairs miss them, and each is counted."""
    said = [(1, 1, 2), (2, 2, 2), (0, 1, 0)]
    rows = [
        {"idx": i} | {f"annotator{k + 1}": x for k, x in enumerate(s)} for i, s in enumerate(said)
    ]
    (tmp_path / "testset-v1.json").write_text(json.dumps(rows))
    done = run("pandalm", tmp_path, "--json")
    assert done.exit_code == 1
    named = {row["what"]: row["ours"] for row in json.loads(done.stdout)["numbers"]}
    assert (named["tie"], named["response 1 better"], named["response 2 better"]) == (1, 1, 1)
    assert named["kappa 1, 3"] == pytest.approx((2 / 3 - 3 / 9) / (1 - 3 / 9))


@pytest.mark.parametrize("name", ["llmbar", "pandalm", "alpaca-eval", "judgebench"])
def test_what_is_not_there_is_one_line(tmp_path: Path, name: str) -> None:
    for path in (tmp_path, tmp_path / "none"):
        done = run(name, path)
        assert done.exit_code != 0
        assert str(path) in str(done.exception) or str(path) in done.output


@pytest.mark.parametrize(
    ("name", "folder", "n"), [("alpaca-eval", "alpacaeval2", 60), ("judgebench", "judging", 4)]
)
def test_real_data(real_data: Path, name: str, folder: str, n: int) -> None:
    done = run(name, real_data / folder, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["n"] == n


def test_alpaca_eval_as_its_repository_has_it(tmp_path: Path) -> None:
    results = tmp_path / "results" / "model" / "weighted_alpaca_eval_gpt4_turbo"
    results.mkdir(parents=True)
    rows = [{"instruction": str(i), "preference": p} for i, p in enumerate((1.8, 1.5, 1.1, None))]
    (results / "annotations.json").write_text(json.dumps(rows))
    board = tmp_path / "src" / "leaderboards" / "data_AlpacaEval_2"
    board.mkdir(parents=True)
    mean, spread = 140 / 3, 100 * (0.2466666667 / 2 / 3) ** 0.5
    (board / "weighted_alpaca_eval_gpt4_turbo_leaderboard.csv").write_text(
        ",win_rate,standard_error,discrete_win_rate,n_total,mode\n"
        f"model,{mean},{spread},50.0,3,verified\nother,1.0,1.0,1.0,805,minimal\n"
    )
    done = run("alpaca-eval", tmp_path, "--json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["n"], found["beyond"]) == (0, 4, 0), done.stdout


def test_judge_bench_as_its_repository_has_it(tmp_path: Path) -> None:
    def pair(name: str, label: str, *decisions: str | None) -> str:
        said = [None if one is None else {"decision": one} for one in decisions]
        return json.dumps({"pair_id": name, "label": label, "judgments": said}) + "\n"

    name = "dataset=judgebench,response_model={1},judge_name=arena_hard,judge_model={0}.jsonl"
    gpt = "gpt-4o-2024-05-13"
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / name.format("o1-mini-2024-09-12", gpt)).write_text(
        pair("a", "A>B", "A>B", "B>A")  # right in both orders
        + pair("b", "B>A", "B>A", "A=B")  # right in one, a tie in the other
        + pair("c", "A>B", "A>B", "A>B")  # the place decides
        + pair("d", "B>A", None, "A>B")  # one order alone, and right
    )
    for judge, answers in (("nobody", gpt), ("o1-mini-2024-09-12", "another")):
        (outputs / name.format(judge, answers)).write_text(pair("e", "A>B", "A>B", "B>A"))
    done = run("judgebench", tmp_path, "--json")
    [number] = json.loads(done.stdout)["numbers"]
    assert (number["group"], number["ours"]) == ("o1-mini-2024-09-12", 75.0)
    assert done.exit_code == 1
