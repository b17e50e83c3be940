"""What is published can be checked by anybody, and loads."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from evals.models.checkpoints import ModelSource, load_causal_lm
from pipeline.cli import app
from pipeline.publishing.card import model_card
from schemas.errors import ConfigError, DataError, MissingInputError
from tests.fixtures.tiny_models import tiny_adapter, tiny_llama


@pytest.fixture(scope="module")
def pushed(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pushed") / "folder"
    done = CliRunner().invoke(app, ["push", str(finished), "me/tiny-dpo", "--to", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


def verified(folder: Path) -> tuple[int, list[str]]:
    done = CliRunner().invoke(app, ["verify", str(folder), "--json"])
    return done.exit_code, json.loads(done.stdout)["problems"]


def test_the_card_is_filled_and_holds(pushed: Path, finished: Path) -> None:
    card = (pushed / "README.md").read_text()
    assert "# tiny-dpo" in card
    rates = json.loads((finished / "evaluate" / "win_rates.json").read_text())
    assert f"| {rates['judge']['win_rate']:.1%} |" in card
    assert rates["judge"]["statement"] in card
    for said in ("120 comparisons (train 74, dev 24, test 22)", "`loss.beta` = 0.1", "12 steps"):
        assert said in card
    assert "accuracy is" in card
    assert verified(pushed) == (0, [])
    AutoModelForCausalLM.from_pretrained(pushed)


def test_a_number_that_does_not_follow_is_found(pushed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pushed, tmp_path / "copy"))
    record = folder / "prefline" / "numbers.json"
    said = json.loads(record.read_text())
    said["numbers"]["judge"]["win_rate"] += 0.1
    record.write_text(json.dumps(said))
    code, problems = verified(folder)
    assert code == 1
    assert problems[0].startswith("judge.win_rate: the card says")


def test_a_card_that_was_written_over_is_found(pushed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pushed, tmp_path / "copy"))
    card = folder / "README.md"
    card.write_text(card.read_text().replace("| judge (length) | ", "| judge (length) | 9"))
    assert verified(folder) == (1, ["README.md: its results are not those that the verdicts give"])


def test_other_weights_are_found(pushed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pushed, tmp_path / "copy"))
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").unlink()
    assert verified(folder) == (
        1,
        [
            "config.json: is not the file that was published",
            "tokenizer.json: is missing",
        ],
    )


def test_what_cannot_be_published_or_verified_is_said(
    pushed: Path, finished: Path, tmp_path: Path
) -> None:
    runner = CliRunner()
    to_full = runner.invoke(app, ["push", str(finished), "--to", str(pushed)])
    assert isinstance(to_full.exception, ConfigError)
    run = Path(shutil.copytree(finished, tmp_path / "damaged"))
    (run / "evaluate" / "completions_policy.parquet").unlink()
    damaged = runner.invoke(app, ["push", str(run), "--to", str(tmp_path / "new")])
    assert isinstance(damaged.exception, DataError)
    assert "completions_policy.parquet is missing" in str(damaged.exception)
    assert not (tmp_path / "new").exists()
    nothing = runner.invoke(app, ["push", str(tmp_path / "no"), "--to", str(tmp_path / "new")])
    assert isinstance(nothing.exception, MissingInputError)
    assert isinstance(runner.invoke(app, ["push", str(pushed)]).exception, ConfigError)
    assert isinstance(runner.invoke(app, ["verify", str(tmp_path)]).exception, MissingInputError)


def test_a_base_that_is_a_folder_is_not_named_like_one_of_a_hub(tmp_path: Path) -> None:
    run = tmp_path / "run"
    tiny_adapter(run / "train" / "model", tiny_llama(tmp_path / "base"))
    card = model_card(run, run, "me/tiny", {})
    assert 'library_name: "peft"' in card
    assert "base_model" not in card


def test_a_merged_adapter_is_the_same_model_without_peft(tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", tiny_llama(tmp_path / "base"))
    out = tmp_path / "merged"
    done = CliRunner().invoke(app, ["merge", str(adapter), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert not (out / "adapter_config.json").exists()
    ids = torch.tensor([[5, 6, 7, 8]])
    cpu = torch.device("cpu")
    models = [load_causal_lm(ModelSource(path=str(path)), cpu) for path in (adapter, out)]
    with torch.inference_mode():
        one, other = (model(input_ids=ids).logits for model in models)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    again = CliRunner().invoke(app, ["merge", str(adapter), "--out", str(out)])
    assert isinstance(again.exception, ConfigError)
