"""A judge that rates each completion by itself, through the doors: calls, costs, tables, pages."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.commands.runs.plan import plan
from pipeline.recipe import load_recipe
from pipeline.runs.run import Run
from schemas.errors import BackendError
from schemas.manifest import read_manifest
from schemas.parquet import read_rows
from schemas.tables import PREFERENCE_PAIRS, VERDICTS
from tests.fixtures.chaos_server import ChaosServer, Raw, chaos_server, error, said

PRICES = ("--prompt-price", "1000", "--completion-price", "2000")
COST_OF_A_CALL = (100 * 1000 + 10 * 2000) / 1e6


def rates(body: Mapping[str, Any]) -> Raw:
    """`9 4 ...` is rated 9 for truth and 4 for style."""
    text = body["messages"][-1]["content"].split("==== Completion ====\n")[1]
    truth, style = re.findall(r"\d+", text)[:2]
    return said(json.dumps({"truth": int(truth), "style": int(style)}))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChaosServer]:
    monkeypatch.chdir(tmp_path)
    with chaos_server(rates) as running:
        yield running


def judge(server: ChaosServer, **settings: Any) -> str:
    criteria = {"truth": 3, "style": 1}
    where = {"base_url": server.url, "model": "m"}
    return json.dumps(
        {"kind": "llm", "server": where, "answer": "rating", "criteria": criteria, **settings}
    )


def lines(path: str, rows: list[dict[str, Any]]) -> str:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def ran(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_judge_pairs_takes_n_calls_a_prompt(server: ChaosServer) -> None:
    answers = ["9 4 a", "3 9 b", "9 4 c", "1 1 d"]
    rows = [{"prompt": f"Question {i}?", "outputs": [f"{a} {i}" for a in answers]} for i in (1, 2)]
    file = lines("many.jsonl", rows)
    asked = ("judge-pairs", file, "-j", judge(server), "--pairs", "best_vs_worst", *PRICES)
    found = ran(*asked)
    assert server.total_answered() == 8, "4 completions of 2 prompts, not 6 pairs in 2 orders"
    assert (found["ratings"], found["comparisons"], found["verdicts"]) == (8, 12, 24)
    assert found["cost"] == pytest.approx(8 * COST_OF_A_CALL)
    pairs = read_rows(Path(found["files"]["preference_pairs"]), PREFERENCE_PAIRS)
    assert {pair["chosen"][0]["content"][:3] for pair in pairs} == {"9 4"}
    assert {pair["rejected"][0]["content"][:3] for pair in pairs} == {"1 1"}
    verdicts = read_rows(Path(found["files"]["verdicts"]), VERDICTS)
    assert sum(row["prompt_tokens"] for row in verdicts) == 800
    assert {row["rating_a"] for row in verdicts} <= {7.75, 4.5, 1.0}
    tied = ran(*asked, "-j", judge(server, tie_within=9))
    assert server.total_answered() == 8, "another tie rule asks nothing anew"
    assert (tied["pairs"], tied["cost"]) == (0, pytest.approx(8 * COST_OF_A_CALL))


def test_a_plan_counts_the_ratings(server: ChaosServer) -> None:
    rows = [{"prompt": f"Q{i}?", "outputs": [f"{j} 5" for j in range(1, 6)]} for i in range(3)]
    ran("judge-pairs", lines("five.jsonl", rows), "-j", judge(server), "-d", "r", *PRICES)
    run = Run(Path("r"), load_recipe(Path("r/recipe.toml"), ["label.min_margin=0.2"]))
    (label,) = [one for one in plan([run]) if one.stage == "label"]
    assert label.work is not None
    assert (label.work.unit, label.work.units) == ("ratings", 15)
    assert label.is_paid


def test_compare_shows_each_criterion(server: ChaosServer) -> None:
    prompts = [f"Question number {i}?" for i in range(6)]
    texts = {"base": "5 6", "mine": "8 4", "other": "5 9"}
    files = [
        lines(f"{name}.jsonl", [{"prompt": p, "output": f"{t} {p}"} for p in prompts])
        for name, t in texts.items()
    ]
    found = ran("compare", *files, "--judge", judge(server), "-d", "r", *PRICES)
    assert server.total_answered() == 18, "the baseline's are rated once for both rivals"
    assert found["cost"] == pytest.approx(18 * COST_OF_A_CALL)
    mine = next(row for row in found["rows"] if row["name"] == "mine")
    assert mine["win_rate"] == 1
    assert mine["criteria"]["truth"]["value"] == 1
    assert (mine["criteria"]["style"]["value"], mine["criteria"]["style"]["n"]) == (0, 6)
    assert mine["mean_ratings"]["policy"]["value"] == 7.0  # (3 * 8 + 4) / 4
    manifest = read_manifest(Path("r/evaluate"))
    assert manifest is not None
    assert manifest.counts["ratings"] == 18
    shown = json.loads(Path("r/report/summary.json").read_text())["win_rate"]["judge"]
    assert shown["pointwise"] is True
    assert (shown["n_verdicts"], shown["position"]["consistency"]) == (6, None)
    assert shown["criteria"]["truth"]["ratings"]["difference"]["value"] == 3
    page = Path("r/report/index.html").read_text()
    assert "By criterion" in page
    assert "rated by itself" in page
    assert "Does the place decide?" not in page
    rate = ran("win-rate", "r/evaluate/verdicts.parquet")
    assert rate["criteria"] == shown["criteria"]
    told = CliRunner().invoke(app, ["win-rate", "r/evaluate/verdicts.parquet"]).stdout
    assert "by truth" in told
    assert "mean rating 7.00 against 5.25" in told


def test_the_card_knows_of_no_order(server: ChaosServer) -> None:
    rows = [
        {"prompt": f"Q{i}?", "response_a": "9 4", "response_b": "3 9", "label": label}
        for i, label in enumerate(["A", "A", "B", "A"])
    ]
    found = ran("judge-pairs", lines("labelled.jsonl", rows), "-j", judge(server))
    card = found["card"]
    assert card["pointwise"] is True
    assert card["accuracy"]["value"] == 0.75
    assert card["position_consistency"]["value"] is None
    assert card["unscored_rate"]["n"] == 4, "one answer a comparison"
    assert card["criteria"]["style"]["value"] == 0.25


def test_references_are_shown_where_there_are_any(server: ChaosServer) -> None:
    prompts = [
        {"prompt": f"Question {i}?", "reference": f"Known {i}"} if i else {"prompt": "Question 0?"}
        for i in range(4)
    ]
    files = [
        lines(f"{name}.jsonl", [{"prompt": p["prompt"], "output": t} for p in prompts])
        for name, t in {"a": "5 6", "b": "8 4"}.items()
    ]
    asked = ("compare", *files, "--judge", judge(server, references="data"), "-d", "r")
    ran(*asked, "--prompts", lines("p.jsonl", prompts))
    shown = [body["messages"][0]["content"] for body in server.bodies if "messages" in body]
    assert sum("==== Reference ====\nKnown" in text for text in shown) == 6
    assert len(shown) == 8
    found = json.loads(Path("r/report/summary.json").read_text())["win_rate"]["judge"]
    assert found["n_without_reference"] == 1
    assert "Judged without a reference answer" in Path("r/report/index.html").read_text()
    told = CliRunner().invoke(app, ["win-rate", "r/evaluate/verdicts.parquet"]).stdout
    assert "1 prompts have no reference answer" in told
    manifest = read_manifest(Path("r/evaluate"))
    assert manifest is not None
    assert "1 of 4 comparisons have no reference answer" in " ".join(manifest.notes)
    prompts[0]["reference"] = "Known 0"
    ran(*asked, "--prompts", lines("p.jsonl", prompts))
    assert server.total_answered() == 10, "only the two with another question are asked"


def test_given_pairs_bring_their_references(server: ChaosServer) -> None:
    rows = [{"prompt": "Q?", "outputs": ["9 4", "3 9"], "reference": "Known"}]
    found = ran("judge-pairs", lines("x.jsonl", rows), "-j", judge(server, references="data"))
    assert found["without_reference"] == 0
    bodies = [body["messages"][0]["content"] for body in server.bodies if "messages" in body]
    assert all("==== Reference ====\nKnown" in text for text in bodies)


RECIPE = """
name = "flaky"
description = "a server that fails now and then"
hardware = "any"
[ingest]
test_fraction = 0.2
dev_fraction = 0.6
[[ingest.datasets]]
kind = "jsonl"
path = "labelled.jsonl"
[judge]
kind = "llm"
answer = "ANSWER"
[judge.server]
base_url = "URL"
model = "m"
[sample]
outputs = ["many.jsonl"]
[label]
[report]
[runtime.judge_server]
attempts = 1
"""


@pytest.mark.parametrize("answer", ["rating", "reasoned"])
def test_what_a_server_failed_to_give_is_asked_again_alone(
    server: ChaosServer, answer: str
) -> None:
    """By label, and for the judge's card: neither is done, and what is there is kept."""

    def answers(body: Mapping[str, Any]) -> Raw:
        text = body["messages"][0]["content"]
        if answer == "rating":
            return said(f"Rating: {text.split('==== Completion ====')[1].split()[0]}")
        a, b = (text.split(f"==== Completion {side} ====")[1].split()[0] for side in "AB")
        return said("Verdict: A" if int(a) > int(b) else "Verdict: B")

    def fails(body: Mapping[str, Any]) -> Raw:
        unlucky = "fails" in body["messages"][0]["content"]
        return error(500, "oops") if unlucky else answers(body)

    pairs = [
        {"prompt": f"Is it {i}?", "chosen": f"9 {'fails' * (i < 4)}", "rejected": "3 x"}
        for i in range(40)
    ]
    lines("labelled.jsonl", pairs)
    outputs = ["9 a", "4 b", "1 c"]
    listed = [{"prompt": f"Q{i}?", "outputs": [f"{t} {i}" for t in outputs]} for i in range(3)]
    listed[1]["outputs"] = ["9 a", "4 fails", "1 c"]
    lines("many.jsonl", listed)
    recipe = RECIPE.replace("URL", server.url).replace("ANSWER", answer)
    Path("r.toml").write_text(recipe)

    def run() -> BaseException | None:
        done = CliRunner().invoke(app, ["run", "--recipe", "r.toml", "--run-dir", "r"])
        return done.exception

    server.answer = fails
    failed = run()
    assert isinstance(failed, BackendError)
    assert "judge: not all of it could be done: llm:general: " in str(failed)
    for stage in ("judge", "label"):
        manifest = read_manifest(Path("r") / stage)
        assert manifest is not None
        assert len(manifest.missing) == 1
        assert "server_error" in manifest.missing[0]
    before = dict(server.answered)
    server.answer = answers
    assert run() is None
    assert max(server.answered.values()) == 1, "nothing is asked or paid for twice"
    new = [request for request in server.answered if request not in before]
    assert 0 < len(new) < len(before)
    if answer == "rating":
        done = CliRunner().invoke(app, ["report", "--recipe", "r.toml", "--run-dir", "r"])
        assert done.exit_code == 0
        page = Path("r/report/index.html").read_text()
        assert "no bias for a place to be measured" in page
    verdicts = read_rows(Path("r/label/verdicts.parquet"), VERDICTS)
    assert all(row["verdict"] for row in verdicts)
    for stage in ("judge", "label"):
        manifest = read_manifest(Path("r") / stage)
        assert manifest is not None
        assert manifest.missing == []
        assert not [name for name in manifest.counts if name.startswith("failed_calls")]
    assert sorted(path.name for path in Path("r/label").iterdir()) == [
        "comparisons.parquet",
        "manifest.json",
        "preference_pairs.parquet",
        "rejects.parquet",
        "verdicts.parquet",
    ]
