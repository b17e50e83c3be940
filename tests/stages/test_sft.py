"""sft: models from scratch and from a folder, tokenizers, rejects, failures."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from evals.models.checkpoints import ModelSource, load_causal_lm, load_tokenizer
from evals.models.rendering import ChatRenderer
from schemas.errors import DataError
from schemas.parquet import read_rows
from schemas.stage import SilentProgress, StageContext
from schemas.tables import REJECTS
from stages.sft import STAGE
from stages.sft.config import FromScratch, SftConfig
from stages.sft.from_scratch import train_tokenizer
from tests.fixtures.preferences import (
    NAMES,
    assistant,
    demonstration,
    question,
    user,
    write_ingest,
)
from tests.fixtures.tiny_models import tiny_adapter, tiny_llama

SHAPE = {
    "hidden_size": 32,
    "num_layers": 1,
    "num_heads": 1,
    "max_position_embeddings": 64,
    "tokenizer": {"kind": "bpe", "vocab_size": 330},
}
TRAINING = {"learning_rate": 1e-2, "batch_size": 8, "num_epochs": 2, "eval_every": 2}
TOKENIZERS = {
    kind: train_tokenizer(
        FromScratch.model_validate({**SHAPE, "tokenizer": {"kind": kind}}), ["user\nwhat is it?"]
    )
    for kind in ("bpe", "byte")
}


def settings_of(**changes: Any) -> SftConfig:
    return SftConfig.model_validate({"from_scratch": SHAPE, "training": TRAINING} | changes)


def run(config: SftConfig, folder: Path, **ingest: Any) -> tuple[dict[str, int], StageContext]:
    torch.set_num_threads(1)
    output = folder / "sft"
    output.mkdir(parents=True)
    context = StageContext({"ingest": write_ingest(folder / "ingest", **ingest)}, output)
    return dict(STAGE.run(config, context)), context


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, int], StageContext]:
    return run(settings_of(), tmp_path_factory.mktemp("sft"))


def test_writes_a_model_that_opens_and_nothing_else(
    finished: tuple[dict[str, int], StageContext],
) -> None:
    counts, context = finished
    assert counts["rows_in"] == counts["train"] + counts["held_out"] == 2 * len(NAMES)
    assert sorted(p.name for p in context.output.iterdir()) == [
        "metrics.jsonl",
        "metrics.parquet",
        "model",
        "rejects.parquet",
    ]
    source = ModelSource(path=str(context.output / "model"))
    model, tokenizer = load_causal_lm(source, torch.device("cpu")), load_tokenizer(source)
    assert model.config.model_type == "llama"
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.bos_token_id is not None


def test_loss_falls_on_both_splits(finished: tuple[dict[str, int], StageContext]) -> None:
    lines = (finished[1].output / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert rows[-1]["eval_loss"] < rows[0]["eval_loss"]
    assert rows[-1]["loss"] < rows[1]["loss"]


def test_completion_continues_the_prompt_and_ends_with_the_end_token(
    finished: tuple[dict[str, int], StageContext],
) -> None:
    tokenizer = load_tokenizer(ModelSource(path=str(finished[1].output / "model")))
    tokens = ChatRenderer(tokenizer).render(question("béa"), assistant("pizza"))
    text = tokenizer.decode([*tokens.prompt_ids, *tokens.completion_ids])
    assert text == (
        "<|im_start|>user\nwhat does béa like?<|im_end|>\n<|im_start|>assistant\npizza<|im_end|>"
    )
    assert tokens.completion_ids[-1] == tokenizer.eos_token_id
    # Roles and section markers are in the tokenizer's training text, so they are cheap.
    assert len(tokenizer.encode("assistant", add_special_tokens=False)) == 1
    assert len(tokenizer.encode("==== Completion A ====", add_special_tokens=False)) <= 4


def test_same_seed_same_bytes_other_seed_other_weights(tmp_path: Path) -> None:
    models = []
    for number, seed in enumerate((5, 5, 6)):
        folder = tmp_path / str(number)
        _, context = run(settings_of(training={**TRAINING, "seed": seed}), folder)
        files = sorted((context.output / "model").iterdir())
        models.append({f.name: f.read_bytes() for f in files})
    assert models[0] == models[1]
    assert models[0]["tokenizer.json"] == models[2]["tokenizer.json"]
    assert models[0]["model.safetensors"] != models[2]["model.safetensors"]


@pytest.mark.parametrize("kind", ["bpe", "byte"])
@given(text=st.text())
@settings(max_examples=100, deadline=None)
def test_any_text_comes_back_from_its_tokens(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode(ChatRenderer(tokenizer).neutralise(text), add_special_tokens=False)
    assert tokenizer.decode(ids) == ChatRenderer(tokenizer).neutralise(text)
    assert not set(ids) & set(tokenizer.all_special_ids)


def test_byte_tokenizer_has_no_merges() -> None:
    assert len(TOKENIZERS["byte"]) == 260
    assert len(TOKENIZERS["byte"].encode("né", add_special_tokens=False)) == 3


def test_starts_from_a_given_model_also_with_lora(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", hidden_size=32, layers=1)
    config = settings_of(
        from_scratch=None,
        model={"path": str(base)},
        training={**TRAINING, "lora": {"rank": 4, "alpha": 8}},
    )
    _, context = run(config, tmp_path)
    # The adapter is folded in: whoever samples from it needs nothing of the base model.
    assert not (context.output / "model" / "adapter_config.json").exists()
    trained = load_causal_lm(
        ModelSource(path=str(context.output / "model")), torch.device("cpu")
    ).state_dict()
    before = load_causal_lm(ModelSource(path=str(base)), torch.device("cpu")).state_dict()
    changed = {name for name in before if not torch.equal(before[name], trained[name])}
    assert changed
    assert all("proj" in name for name in changed)


def test_an_adapter_to_start_from_is_folded_in_and_trained(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", hidden_size=32, layers=1)
    adapter = tiny_adapter(tmp_path / "adapter", base)
    config = settings_of(from_scratch=None, model={"path": str(adapter)})
    _, context = run(config, tmp_path)
    path = context.output / "model"
    trained = load_causal_lm(ModelSource(path=str(path)), torch.device("cpu")).state_dict()
    before = load_causal_lm(ModelSource(path=str(base)), torch.device("cpu")).state_dict()
    assert not any(torch.equal(before[name], trained[name]) for name in before)


def test_unusable_demonstrations_are_rejected_with_reason(tmp_path: Path) -> None:
    rows = [
        demonstration("kai", "pizza", 0),
        demonstration("lea", " \n", 1),
        demonstration("ivo", "pizza " * 80, 2),
        {**demonstration("jun", "pizza", 3), "prompt": user("")},
    ]
    counts, context = run(settings_of(), tmp_path, demonstrations=rows)
    rejects = {r["row"]: r for r in read_rows(context.output / "rejects.parquet", REJECTS)}
    assert {n: r["reason"] for n, r in rejects.items()} == {
        1: "empty_completion",
        2: "too_long",
        3: "empty_prompt",
    }
    assert json.loads(rejects[2]["raw"])["demonstration_id"] == rows[2]["demonstration_id"]
    assert (counts["rows_in"], counts["train"], counts["rejects"]) == (4, 1, 3)
    assert counts["rejects/too_long"] == 1


def test_nothing_to_train_on_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no demonstrations in the train split; add a dataset"):
        run(settings_of(), tmp_path / "none", demonstrations=[])
    with pytest.raises(DataError, match=r"every demonstration .* was rejected \(1 empty_completi"):
        run(settings_of(), tmp_path / "empty", demonstrations=[demonstration("kai", "")])


def test_exactly_one_start() -> None:
    with pytest.raises(ValidationError, match="exactly one of model and from_scratch"):
        SftConfig()
    with pytest.raises(ValidationError, match="exactly one of model and from_scratch"):
        settings_of(model={"path": "somewhere"})


def test_heads_that_vllm_refuses_are_told(tmp_path: Path) -> None:
    _, context = run(settings_of(from_scratch={**SHAPE, "num_heads": 2}), tmp_path)
    assert isinstance(context.progress, SilentProgress)
    assert "heads of 16 dimensions" in context.progress.warnings[0]
