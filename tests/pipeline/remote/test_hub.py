"""Models and data sets of a hub, against a server on this machine that answers as a hub does."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evals.models.checkpoints import ModelSource, load_tokenizer
from evals.models.hub import forget_pins
from pipeline.cli import app
from pipeline.preflight.hub import hub_problems
from pipeline.recipe import Recipe, load_recipe
from schemas.errors import BackendError
from schemas.parquet import read_rows
from schemas.tables import TABLES
from tests.fixtures.hub_server import Hub, hub_server
from tests.fixtures.ingest import pair
from tests.fixtures.tiny_models import tiny_llama


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.chdir(tmp_path)
    with hub_server(tmp_path / "cache", monkeypatch) as found:
        yield found


def recipe(folder: Path, *models: str) -> Recipe:
    names = ("policy", "baseline", *(f"compare_with.m{i}" for i in range(len(models))))
    lines = [
        f"[evaluate.{name}]\n{settings}\n" for name, settings in zip(names, models, strict=False)
    ]
    (folder / "p.txt").write_text("One?\nTwo?\n")
    head = 'name = "r"\n[judge]\nkind = "length"\n[evaluate]\nprompts = "p.txt"\n'
    (folder / "r.toml").write_text(head + "".join(lines))
    return load_recipe(folder / "r.toml")


def test_what_a_hub_does_not_give_is_told_by_name_before_anything_is_paid_for(
    hub: Hub, tmp_path: Path
) -> None:
    model = tiny_llama(tmp_path / "tiny")
    hub.put("some/model", model)
    hub.put("some/gated", model, gated=True)
    loaded = recipe(
        tmp_path,
        'path = "some/model"',
        'path = "some/nothing"',
        'path = "some/gated"',
        'path = "some/model"\nrevision = "no-such"',
    )
    problems, unknown = hub_problems(loaded)
    assert unknown == []
    assert [said.partition(": ")[2] for said in problems] == [
        "some/nothing: the hub does not have it, or shows it to nobody without a token; correct "
        "the id",
        "some/gated: its licence must be accepted on the hub, and HF_TOKEN be set",
        "some/model: has no revision 'no-such'",
    ]


def test_a_hub_that_is_down_refuses_nothing_and_is_asked_once(hub: Hub, tmp_path: Path) -> None:
    hub.down = True
    problems, unknown = hub_problems(recipe(tmp_path, 'path = "a/b"', 'path = "c/d"'))
    assert problems == []
    assert len(unknown) == 2
    assert "a/b is no folder here and cannot be looked up here" in unknown[0]
    assert "503" in unknown[0]
    assert not any("c/d" in path for path in hub.asked)
    with pytest.raises(BackendError, match="a/b: no tokenizer"):
        load_tokenizer(ModelSource(path="a/b"))


def test_a_branch_that_moves_leaves_a_run_at_its_commit(hub: Hub, tmp_path: Path) -> None:
    """What was pinned is what is opened, whatever `main` is at by then."""
    first = hub.put("some/model", tiny_llama(tmp_path / "one", seed=1))
    hub.put("some/other", tiny_llama(tmp_path / "two", seed=2))
    (tmp_path / "p.txt").write_text("One?\nTwo?\nThree?\n")
    words = (
        "compare", "some/model", "some/other", "-p", "p.txt", "-j", "length", "--max-tokens", "8",
        "-d", "c", "--json",
    )  # fmt: skip
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    manifest = json.loads((tmp_path / "c" / "evaluate" / "manifest.json").read_text())
    assert manifest["payload"]["commits"]["some/model@main"] == first
    moved = hub.put("some/model", tiny_llama(tmp_path / "three", seed=3))
    assert moved != first
    forget_pins()  # as in another process
    hub.asked.clear()
    again = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "evaluate: up to date" in again.stderr
    assert again.stdout == done.stdout
    assert not any(moved in path for path in hub.asked)


ADAPTED = """
name = "r"
[runtime]
threads = 1
[ingest]
test_fraction = 0.3
[[ingest.datasets]]
kind = "jsonl"
path = "pairs.jsonl"
[judge]
kind = "length"
[train.model]
path = "some/model"
[train.training]
max_steps = 1
[train.training.lora]
rank = 2
[evaluate]
max_prompts = 2
max_tokens = 2
[report]
"""


def test_a_branch_that_moves_while_an_adapter_is_trained_changes_nothing(
    hub: Hub, tmp_path: Path
) -> None:
    first = hub.put("some/model", tiny_llama(tmp_path / "one", layers=1, seed=1))
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair(i)) + "\n" for i in range(30)))
    (tmp_path / "r.toml").write_text(ADAPTED)

    def trained(run: str, *stages: str) -> tuple[bytes, bytes]:
        for stage in stages:
            done = CliRunner().invoke(app, [stage, "-r", "r.toml", "-d", run])
            assert done.exit_code == 0, (done.output, done.exception)
            if (tmp_path / run / "hub.json").exists() and len(stages) > 1:  # to another vocabulary
                wider = tiny_llama(tmp_path / stage, layers=1, vocab_size=310, seed=len(stage))
                hub.put("some/model", wider)
            forget_pins()  # as in another process
        assert json.loads((tmp_path / run / "hub.json").read_text()) == {"some/model@main": first}
        weights = tmp_path / run / "train" / "model" / "adapter_model.safetensors"
        verdicts = tmp_path / run / "evaluate" / "verdicts.parquet"
        return weights.read_bytes(), verdicts.read_bytes()

    stays = trained("stays", "run")
    hub.asked.clear()
    assert trained("moves", "ingest", "judge", "train", "evaluate", "report") == stays
    others = set(hub.repositories["models", "some/model"].commits) - {first}
    assert not [path for path in hub.asked if any(other in path for other in others)]
    card = CliRunner().invoke(app, ["push", "moves", "--to", "pushed"], catch_exceptions=False)
    assert "of this machine" not in card.output
    assert 'base_model: "some/model"' in (tmp_path / "pushed" / "README.md").read_text()


def test_a_data_set_is_ingested_at_its_commit(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rows = [json.dumps(pair(i)) for i in range(30)]
    (tmp_path / "data" / "train.jsonl").write_text("\n".join(rows) + "\n")
    commit = hub.put("some/pairs", tmp_path / "data", "datasets")
    (tmp_path / "data" / "train.jsonl").write_text(json.dumps(pair(99)) + "\n")
    hub.put("some/pairs", tmp_path / "data", "datasets")
    (tmp_path / "r.toml").write_text(
        'name = "r"\n[ingest]\n[[ingest.datasets]]\nkind = "jsonl"\nhub_id = "some/pairs"\n'
        f'hub_revision = "{commit}"\n'
    )
    done = CliRunner().invoke(app, ["ingest", "-r", "r.toml", "-d", "run"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = read_rows(tmp_path / "run" / "ingest" / "comparisons.parquet", TABLES["comparisons"])
    assert len(found) == 30
    hub.down = True
    (tmp_path / "r.toml").write_text((tmp_path / "r.toml").read_text().replace("pairs", "other"))
    with pytest.raises(BackendError, match=r"hub:some/other.*cannot be loaded"):
        CliRunner().invoke(app, ["ingest", "-r", "r.toml", "-d", "down"], catch_exceptions=False)
