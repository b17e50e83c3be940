"""Rounds with LoRA, the commonest on-policy setting: three of them, and the adapters they leave."""

import gc
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from evals.models.checkpoints import ModelSource, load_causal_lm, load_tokenizer
from evals.models.logps import completion_logps
from evals.models.rendering import ChatRenderer, RenderedCompletion
from pipeline.commands.runs.run import run_recipe
from pipeline.recipe import load_recipe
from pipeline.runs import run as run_module
from schemas.parquet import read_rows
from schemas.tables import COMPLETIONS
from tests.fixtures.tiny_models import tiny_llama
from tests.pipeline.test_smollm2 import NAME, real_model

RECIPE = """
name = "lora-rounds"
[runtime]
device = "cpu"
threads = 1
[rounds]
n = 3
[ingest]
test_fraction = 0.1
dev_fraction = 0.2
[[ingest.datasets]]
kind = "instructions"
prompts = 12
[ingest.near_duplicates]
policy = "off"
[judge]
kind = "length"
[sample]
n = 3
max_tokens = 10
temperature = 1.0
[sample.model]
path = "MODEL"
[label]
truncated = "keep"
min_margin = 0.0
[train]
[train.model]
path = "MODEL"
[train.training]
learning_rate = 1e-3
batch_size = 4
max_steps = 2
[train.training.lora]
rank = 4
[train.publish]
kind = "last"
[train.generations]
prompts = 0
"""
FOLDERS = ("", "round-2", "round-3")
# As little as three rounds can be made of, for a model whose every token costs a real pass.
FEW = (
    *("ingest.datasets.0.prompts=6", "sample.n=2", "sample.max_tokens=6"),
    *("train.training.batch_size=2", "train.training.max_steps=1"),
    "train.training.max_held_out=1",
)


def three_rounds(model: Path, tmp_path: Path, *settings: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.replace("MODEL", str(model)))
    run_recipe(load_recipe(path, settings), tmp_path / "run")
    return tmp_path / "run"


def check(model: Path, run: Path) -> None:
    """Each round samples and goes on with the adapter before it, on the one true base."""
    policies: set[str] = set()
    ids = ChatRenderer(load_tokenizer(ModelSource(path=str(model)))).prompt_ids(
        [{"role": "user", "content": "Name a food."}]
    )
    texts = [RenderedCompletion(ids, ids[:6])]
    seen: list[float] = []
    for folder in FOLDERS:
        adapter = run / folder / "train" / "model"
        config = json.loads((adapter / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == str(model)
        assert config["r"] == 4
        rows = [json.loads(s) for s in (adapter.parent / "metrics.jsonl").read_text().splitlines()]
        first = next(row for row in rows if row["step"] == 1)
        # The reference is the adapter as the round began: the first step does not move from it.
        assert first["loss"] == pytest.approx(math.log(2), abs=1e-4)
        completions = read_rows(run / folder / "sample" / COMPLETIONS.file_name, COMPLETIONS)
        policies |= {row["policy"] for row in completions}
        base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        by_peft = completion_logps(PeftModel.from_pretrained(base, adapter).eval(), texts)
        ours = load_causal_lm(ModelSource(path=str(adapter)), torch.device("cpu"))
        assert torch.allclose(by_peft, completion_logps(ours, texts), atol=1e-4)
        seen.append(float(by_peft.sum()))
    assert len(policies) == 3
    assert len(set(seen)) == 3


def models_alive() -> int:
    gc.collect()
    return sum(issubclass(type(one), PreTrainedModel) for one in gc.get_objects())


def test_three_rounds_of_lora_go_on_with_their_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing that a stage has loaded outlives it: sampling and training take turns."""
    model = tiny_llama(tmp_path / "tiny", hidden_size=32, layers=1, spread=0.2)
    before, left = models_alive(), {}
    record: Any = getattr(run_module, "record_finished")  # noqa: B009

    def recorded(partial: Path, *rest: Any) -> Any:
        left[str(partial)] = models_alive() - before
        return record(partial, *rest)

    monkeypatch.setattr(run_module, "record_finished", recorded)
    check(model, three_rounds(model, tmp_path))
    assert {Path(one).name for one in left} >= {
        f"{s}.partial" for s in ("sample", "label", "train")
    }
    assert set(left.values()) == {0}


@pytest.mark.skipif(real_model() is None, reason=f"no {NAME} here (set PREFLINE_REAL_MODEL)")
def test_three_rounds_of_lora_on_a_real_model(tmp_path: Path) -> None:
    model = real_model()
    assert model is not None
    check(model, three_rounds(model, tmp_path, *FEW))
