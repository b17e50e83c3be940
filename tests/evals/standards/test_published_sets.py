"""prefline reproduce on Arena-Hard's and MT-Bench's layouts, with numbers by hand."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli import app
from tests.evals.standards.layouts import arena_set, arena_verdict, write_lines

V2, BASE = "arena-hard-v2.0", "o3-mini-2025-01-31"
README = """# About

Hard Prompt, and a-judge with gpt-4.1 as Judge
```console
      Model  Scores (%)         CI (%)
0     M-One        {score}  (-0.8 / +0.9)
1   nobody        10.0  (-0.8 / +0.9)
```
"""


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["reproduce", *map(str, words)])


def numbers(*words: object) -> dict[tuple[str, str], dict[str, float | None]]:
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    return {(row["group"], row["what"]): row for row in json.loads(done.stdout)["numbers"]}


def arena(root: Path, score: float = 58.3) -> Path:
    """Three questions: a clear win and a tie; a slight loss and a slight win; one without games."""
    questions = dict.fromkeys(("q1", "q2", "q3"), "hard_prompt")
    texts = {model: {q: f"{model} says {q}." for q in questions} for model in ("m-one", BASE)}
    arena_set(root, questions, texts, V2)
    games = {"q1": ("B>>A", "A=B"), "q2": ("A>B", "A>B"), "q3": (None, "A>>B")}
    rows = [arena_verdict(q, "m-one", said, "hard_prompt", BASE) for q, said in games.items()]
    write_lines(root / "data" / V2 / "model_judgment" / "gpt-4.1" / "m-one.jsonl", rows)
    (root / "README.md").write_text(README.format(score=score))
    return root


def test_arena_hard_weighs_clear_verdicts_and_drops_questions_without_both_games(
    tmp_path: Path,
) -> None:
    """(3 x 1 + 0.5 + 0 + 1) / 6 = 75%: the model is B in the first game and A in the second."""
    found = numbers("arena-hard", arena(tmp_path, 75.0))
    one = found["m-one, gpt-4.1", "hard_prompt"]
    assert one["ours"] == pytest.approx(75.0)
    assert one["published"] == 75.0
    assert len(found) == 1


def test_a_published_table_that_says_otherwise_is_exit_1(tmp_path: Path) -> None:
    done = run("arena-hard", arena(tmp_path, 58.3))
    assert done.exit_code == 1
    assert "arena-hard: 0 of 1 published numbers reproduced" in done.stdout


def test_the_first_version_and_its_tables(tmp_path: Path) -> None:
    """`question_id` and `turns` as in its first files, and the CSV file of its leaderboard."""
    folder = tmp_path / "data" / "arena-hard-v0.1"
    games = [{"score": "A>B"}, {"score": "A>>B"}]
    rows = [{"question_id": "q1", "model": "org/m", "judge": "j", "games": games}]
    write_lines(folder / "model_judgment" / "gpt-4-1106-preview" / "m.jsonl", rows)
    (tmp_path / "leaderboard").mkdir()
    (tmp_path / "leaderboard" / "one.csv").write_text("model,score,date\nm,75.0,2024\n")
    found = numbers("arena-hard", tmp_path)
    assert found["m, gpt-4-1106-preview", "arena-hard-v0.1"]["ours"] == pytest.approx(75.0)
    assert found["m, gpt-4-1106-preview", "arena-hard-v0.1"]["published"] == 75.0


def test_two_judges_are_shown_each_and_together(tmp_path: Path) -> None:
    arena(tmp_path, 75.0)
    other = [arena_verdict("q1", "m-one", ("A>B", "B>A"), "hard_prompt", BASE)]
    write_lines(tmp_path / "data" / V2 / "model_judgment" / "gemini-2.5" / "m-one.jsonl", other)
    found = numbers("arena-hard", tmp_path)
    assert found["m-one, gemini-2.5", "hard_prompt"]["ours"] == 0
    # 4.5 of 6 outcomes by one judge, 0 of 2 by the other.
    both = found["m-one, gemini-2.5 and gpt-4.1", "hard_prompt"]
    assert both["ours"] == pytest.approx(100 * 4.5 / 8)
    assert both["published"] is None


def test_what_is_no_such_file_is_told_by_file_and_row(tmp_path: Path) -> None:
    folder = tmp_path / "data" / V2 / "model_judgment" / "gpt-4.1"
    write_lines(folder / "m.jsonl", [{"uid": "q", "model": "m"}])
    done = CliRunner().invoke(app, ["reproduce", "arena-hard", str(tmp_path)])
    assert "m.jsonl: row 0: no verdict in Arena-Hard's layout" in str(done.exception)
    done = CliRunner().invoke(app, ["reproduce", "mt-bench", str(tmp_path)])
    assert "holds no *model_judgment/*_single.jsonl" in str(done.exception)


def test_mt_bench_ratings_by_turn_and_win_rates(tmp_path: Path) -> None:
    folder = tmp_path / "model_judgment"
    scores = [
        ("gpt-4", 1, 9),
        ("gpt-4", 1, 10),
        ("gpt-4", 2, 8.96),
        ("gpt-4", 2, 8),
        ("gpt-4", 2, -1),
    ]
    rows = [
        {"question_id": 81, "model": m, "judge": ["gpt-4", "single-v1"], "score": s, "turn": t}
        for m, t, s in scores
    ]
    write_lines(folder / "gpt-4_single.jsonl", rows)
    winners = [
        ("model_1", "model_1"),
        ("model_1", "model_2"),
        ("tie", "tie"),
        ("error", "model_1"),
        ("model_2", "model_2"),
        ("model_1", "model_1"),
    ]
    pairs = [
        {
            "question_id": i,
            "model_1": "x",
            "model_2": "y",
            "g1_winner": a,
            "g2_winner": b,
            "turn": 1,
        }
        for i, (a, b) in enumerate(winners)
    ]
    write_lines(folder / "gpt-4_pair.jsonl", pairs)
    found = numbers("mt-bench", tmp_path)
    assert found["gpt-4, gpt-4", "rating, turn 1"]["ours"] == 9.5
    assert found["gpt-4, gpt-4", "rating, turn 2"]["ours"] == pytest.approx(8.48)
    assert found["gpt-4, gpt-4", "rating"] == {
        "group": "gpt-4, gpt-4", "what": "rating", "published": 8.99, "ours": 8.99,
        "difference": pytest.approx(0), "tolerance": 0.005, "holds": True,
    }  # fmt: skip
    # Won two, lost one, two ties; one game failed.
    assert found["x, gpt-4", "win rate, ties half"]["ours"] == pytest.approx(3 / 5)
    assert found["y, gpt-4", "win rate, ties half"]["ours"] == pytest.approx(2 / 5)
