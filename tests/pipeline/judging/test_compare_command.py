"""compare: from files of outputs, or models, to a leaderboard, in one command."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.commands.judging.comparing.entrants import entrants
from schemas.errors import ConfigError, MissingInputError
from tests.fixtures.chaos_server import Raw, chaos_server, completion
from tests.fixtures.tiny_models import tiny_llama

QUESTIONS = [f"Question number {i}, please?" for i in range(10)]
WORDS = {"short": "Yes.", "long": "Yes, and here is why it is so.", "middle": "Yes, of course."}


def outputs(path: Path, text: str, questions: list[str] = QUESTIONS) -> Path:
    rows = [{"prompt": q, "output": f"{text} ({i})"} for i, q in enumerate(questions)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in WORDS.items():
        outputs(tmp_path / f"{name}.jsonl", text)
    (tmp_path / "prompts.txt").write_text("\n".join(QUESTIONS) + "\n")
    return tmp_path


def compare(*arguments: Any) -> dict[str, Any]:
    done = CliRunner().invoke(
        app, ["compare", *map(str, arguments), "--json"], catch_exceptions=False
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def by_name(found: Mapping[str, Any]) -> dict[str, Any]:
    return {row["name"]: row for row in found["rows"]}


def test_three_files_by_length(files: Path) -> None:
    found = compare("short.jsonl", "long.jsonl", "M=middle.jsonl", "--judge", "length")
    rows = by_name(found)
    assert (found["baseline"], found["judge"]) == ("short", "length")
    assert set(rows) == {"short", "long", "M"}
    assert (rows["long"]["win_rate"], rows["M"]["win_rate"], rows["short"]["win_rate"]) == (
        1,
        1,
        0.5,
    )
    assert all(row["n"] == 10 and row["unscored"] == 0 for row in rows.values())
    assert all(
        0 <= row["ci_low"] <= row["win_rate"] <= row["ci_high"] <= 1 for row in found["rows"]
    )
    assert rows["long"]["mean_tokens"] > rows["M"]["mean_tokens"] > rows["short"]["mean_tokens"]
    pairs = {(pair["first"], pair["second"]) for pair in found["pairs"]}
    assert pairs == {("long", "M"), ("long", "short"), ("M", "short")}
    assert all(pair["p_holm"] >= pair["p_value"] for pair in found["pairs"])
    assert Path(found["page"]).is_file()
    # All three pairs were judged; who wins all has a finite rating, which is said.
    assert {(p["first"], p["second"]): p["win_rate"] for p in found["pairs"]} == {
        ("long", "M"): 1.0, ("long", "short"): 1.0, ("M", "short"): 1.0
    }  # fmt: skip
    assert rows["long"]["elo"] > rows["M"]["elo"] > rows["short"]["elo"] == 1000
    assert rows["long"]["elo_low"] < rows["long"]["elo"] < rows["long"]["elo_high"]
    assert found["ratings"]["penalised"]
    assert (found["ratings"]["n_pairs"], found["ratings"]["anchor"]) == (3, "short")
    evaluated = Path(found["page"]).parents[1] / "evaluate"
    between = pq.read_table(evaluated / "verdicts_policy+M.parquet").to_pylist()
    assert {row["verdict"] for row in between} == {"A"}


def test_two_have_no_rating_and_three_may_be_judged_against_the_baseline_alone(
    files: Path,
) -> None:
    two = compare("short.jsonl", "long.jsonl", "--judge", "length")
    assert two["ratings"] is None
    assert by_name(two)["long"]["elo"] is None
    found = compare(
        "short.jsonl", "long.jsonl", "middle.jsonl", "-j", "length", "--against-baseline"
    )
    assert found["ratings"]["n_pairs"] == 2
    direct = {(p["first"], p["second"]): p["win_rate"] for p in found["pairs"]}
    assert direct == {("long", "middle"): None, ("long", "short"): 1.0, ("middle", "short"): 1.0}
    done = CliRunner().invoke(app, ["compare", *(f"{w}.jsonl" for w in WORDS), "-j", "length"])
    assert "Elo: Bradley-Terry over 3 pairs, 10 prompts; somebody won or lost all" in done.stdout
    assert "head to head 100.0%" in done.stdout


def test_another_baseline_and_everything_works_on_the_run(files: Path) -> None:
    found = compare(
        "short.jsonl", "long.jsonl", "--judge", "length", "--baseline", "long", "-d", "here"
    )
    assert found["baseline"] == "long"
    assert by_name(found)["short"]["win_rate"] == 0
    runner = CliRunner()
    again = ["--recipe", "here/recipe.toml", "--run-dir", "here"]
    state = runner.invoke(app, ["status", *again, "--json"], catch_exceptions=False)
    assert json.loads(state.stdout)["evaluate"]["state"] == "fresh"
    verdict = pq.read_table("here/evaluate/verdicts.parquet").to_pylist()[0]
    traced = runner.invoke(
        app, ["trace", verdict["comparison_id"], "-d", "here", "--json"], catch_exceptions=False
    )
    steps = json.loads(traced.stdout)
    assert steps[-1]["raw"] == "long.jsonl" or steps[-1]["raw"] == "short.jsonl"
    rate = runner.invoke(app, ["win-rate", "here/evaluate/verdicts.parquet", "--json"])
    assert json.loads(rate.stdout)["win_rate"] == 0


def test_every_prompt_is_compared_or_named(files: Path) -> None:
    outputs(files / "few.jsonl", "A long answer, this one.", QUESTIONS[:7])
    found = compare("short.jsonl", "few.jsonl", "--prompts", "prompts.txt", "--judge", "length")
    assert by_name(found)["few"]["n"] == 7
    assert [(one["name"], one["file"], one["row"]) for one in found["missing"]] == [
        ("few", "prompts.txt", row) for row in (7, 8, 9)
    ]


def test_prompts_that_look_alike_are_all_compared(files: Path) -> None:
    same = [f"Translate the following sentence into French: number {i}" for i in range(30)]
    outputs(files / "a.jsonl", "x", same)
    outputs(files / "b.jsonl", "longer", same)
    assert by_name(compare("a.jsonl", "b.jsonl", "--judge", "length"))["b"]["n"] == 30


def test_a_model_and_a_served_model_and_a_file(files: Path) -> None:
    folder = tiny_llama(files / "tiny")

    def answers(body: Mapping[str, Any]) -> Raw:
        return Raw(body=json.dumps(completion("Said " + body["messages"][-1]["content"])).encode())

    with chaos_server(answers) as server:
        served = f"S=openai:some-model@{server.url}"
        found = compare(
            folder, served, "short.jsonl", "-p", "prompts.txt", "--judge", "length",
            "--max-tokens", 8, "--baseline", "short", "--chat-template", "role_colon",
        )  # fmt: skip
        asked = server.total_answered()
    rows = by_name(found)
    assert set(rows) == {"tiny", "S", "short"}
    assert all(row["n"] == 10 for row in rows.values())
    assert asked == 10


def test_two_of_one_name_a_stranger_and_a_gap_are_refused(files: Path) -> None:
    with pytest.raises(ConfigError, match="two contenders are called 'short'; write NAME="):
        entrants(["short.jsonl", "short.jsonl"], None, None, None)
    with pytest.raises(ConfigError, match="at least two"):
        entrants(["short.jsonl"], None, None, None)
    with pytest.raises(ConfigError, match="--baseline other: no such contender; one of short, x"):
        entrants(["short.jsonl", "x=long.jsonl"], "other", None, None)
    with pytest.raises(MissingInputError, match=r"gone.jsonl: no such file or folder"):
        entrants(["short.jsonl", "gone.jsonl"], None, None, None)
