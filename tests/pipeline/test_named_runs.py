"""A run directory says by which recipe it was made: commands that need only a run take it alone."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli import app
from schemas.errors import ConfigError, MissingInputError, PipelineError
from tests.fixtures.ingest import pair


def run(*words: object) -> Result:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of a recipe that has one stage, begun with a setting of its own."""
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps(pair(i)) for i in range(40)]
    (tmp_path / "p.jsonl").write_text("\n".join(rows))
    (tmp_path / "r.toml").write_text(
        'name = "r"\n[ingest]\n[[ingest.datasets]]\nkind = "jsonl"\npath = "p.jsonl"\n[report]\n'
    )
    run("ingest", "-r", "r.toml", "-d", "made", "--set", "ingest.seed=7")
    return tmp_path / "made"


def states(*words: object) -> dict[str, str]:
    said = json.loads(run("status", *words, "--json").stdout)
    return {
        stage: one["state"] for stage, one in said.items() if one["state"] != "not in the recipe"
    }


def test_status_report_and_stages_need_the_run_alone(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = states("made")
    assert before["ingest"] == "fresh"  # with the setting that it was made with
    assert (
        before == states("-d", "made") == states("-r", "r.toml", "-s", "ingest.seed=7", "-d", made)
    )
    assert "--set ingest.seed=7" in run("status", "made").stdout
    assert "ingest: up to date" in run("ingest", "-d", "made").output
    run("report", "made")
    assert (made / "report" / "index.html").is_file()
    assert states("made")["report"] == "fresh"
    monkeypatch.chdir(made)
    assert states(".") == states(made)


def test_a_narrow_terminal_cuts_the_words_and_no_stage_or_state(made: Path) -> None:
    with (made / "ingest" / "comparisons.parquet").open("ab") as table:
        table.write(b"more")
    done = CliRunner().invoke(app, ["status", "made"], env={"COLUMNS": "44"})
    line = next(line for line in done.output.splitlines() if "ingest" in line)
    assert line.split()[:2] == ["ingest", "damaged"]


def test_what_is_said_beside_goes_first_and_is_remembered(made: Path) -> None:
    assert states("made", "-s", "ingest.seed=8")["ingest"] == "stale"
    run("ingest", "-d", "made", "-s", "ingest.seed=8")
    assert states("made")["ingest"] == "fresh"
    assert json.loads((made / "run.json").read_text())["overrides"] == ["ingest.seed=8"]


def refused(kind: type[PipelineError], *words: object) -> str:
    with pytest.raises(kind) as raised:
        run(*words)
    return str(raised.value)


def test_runs_that_do_not_say_it_are_refused_in_words(made: Path, tmp_path: Path) -> None:
    assert "give a recipe with --recipe" in refused(ConfigError, "status")
    assert "none: no run is there" in refused(MissingInputError, "status", "none")
    assert "name one run directory" in refused(ConfigError, "status", "made", "-d", "other")
    assert "no verdicts of evaluate there" in refused(MissingInputError, "win-rate", "made")
    (tmp_path / "r.toml").rename(tmp_path / "moved.toml")
    said = refused(MissingInputError, "status", "made")
    assert "r.toml: the recipe of made is not there any more; name it with --recipe" in said
    (made / "run.json").write_text('{"recipe": "r"}')  # as earlier versions wrote it
    assert "does not say by which recipe it was made" in refused(ConfigError, "status", "made")
    assert states("-r", "moved.toml", "-s", "ingest.seed=7", "-d", "made")["ingest"] == "fresh"
    (made / "run.json").write_text("[")
    assert "run.json: does not say whose run this is" in refused(ConfigError, "status", "made")


def test_a_comparison_that_is_moved_still_knows_its_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("long", "A longer answer, it is."), ("short", "Short.")):
        rows = [json.dumps({"prompt": f"Question {i}?", "output": text}) for i in range(6)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    run("compare", "short.jsonl", "long.jsonl", "-j", "length", "-d", "c")
    assert json.loads((tmp_path / "c" / "run.json").read_text())["path"] == "recipe.toml"
    (tmp_path / "c").rename(tmp_path / "elsewhere")
    assert set(states("elsewhere").values()) == {"fresh"}
    assert json.loads(run("win-rate", "elsewhere", "--json").stdout)["win_rate"] == 1.0
