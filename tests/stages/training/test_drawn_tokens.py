"""What a sampler drew is what is trained: the very tokens, with their log-probabilities."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.judges.resolution import resolve
from evals.models.checkpoints import ModelSource, load_causal_lm, load_tokenizer, model_fingerprint
from evals.models.rendering import ChatRenderer
from evals.models.samplers import TransformersSampler
from evals.models.samplers.config import SamplingSettings
from evals.models.samplers.rows import completion_row, request_for
from schemas.ids import prompt_id
from schemas.labels import LabelProbabilities, Order
from schemas.parquet import read_rows, write_table
from schemas.stage import Runtime, StageContext
from schemas.tables import COMPLETIONS, PREFERENCE_PAIRS
from stages.label.candidates import by_prompt
from stages.label.rows import pair_row
from stages.label.selection import Judged
from stages.training.data.disk_cache import DiskCache
from stages.training.data.pairs import PairSource, open_pairs, view_pairs
from stages.training.data.reference_policy.drift import Drift, sampler_drift
from stages.training.data.rows.rejects import Rejects
from stages.training.data.rows.render_rows import DRAWN, DRAWN_OTHERWISE, NEUTRALISED
from tests.fixtures.tiny_models import tiny_llama

SETTINGS = SamplingSettings(temperature=1.5, max_tokens=12, seed=3)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "model"
    tiny_llama(folder)
    return folder


@pytest.fixture(scope="module")
def sampled(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Label's folder: pairs of what the policy has written to two prompts."""
    folder = tmp_path_factory.mktemp("label")
    sampler = TransformersSampler().open(ModelSource(path=str(policy)), Runtime(device="cpu"))
    rows = []
    for number, text in enumerate(("what does kai like?", "what does lea like?")):
        turns = [{"role": "user", "content": text}]
        prompt: dict[str, Any] = {"prompt_id": prompt_id(turns), "prompt": turns, "split": "train"}  # type: ignore[arg-type]
        prompt |= {"category": None, "source": "s", "file": "f", "row": number}
        requests = [request_for(prompt, index, 0) for index in range(4)]
        for index, answer in enumerate(sampler.sample(requests, SETTINGS)):
            rows.append(completion_row(prompt, index, requests[index], answer, sampler, SETTINGS))
    write_table(folder / COMPLETIONS.file_name, COMPLETIONS, rows)
    pairs = [pair_row(one, "judge") for found in by_prompt(rows, "keep") for one in judged(found)]
    assert len(pairs) >= 4
    write_table(folder / PREFERENCE_PAIRS.file_name, PREFERENCE_PAIRS, pairs)
    return folder


def judged(found: Any) -> list[Judged]:
    says = LabelProbabilities(0.9, 0.1, 0.0)
    verdicts = {Order.AB: says, Order.BA: says}
    return [Judged(one, verdicts, resolve(says, says, 0.0)) for one in found.candidates]


def test_completions_keep_what_was_drawn(sampled: Path, policy: Path) -> None:
    renderer = ChatRenderer(load_tokenizer(ModelSource(path=str(policy))))
    for row in read_rows(sampled / COMPLETIONS.file_name, COMPLETIONS):
        assert len(row["completion_ids"]) == len(row["completion_logps"]) == row["num_tokens"]
        assert sum(row["completion_logps"]) == pytest.approx(row["sum_logps"], abs=1e-4)
        assert row["tokens_of"] == renderer.fingerprint
        ended = row["completion_ids"][-1] in renderer.end_ids
        assert ended is (row["finish_reason"] == "stop")


def test_the_drawn_tokens_are_trained_where_tokenizer_and_template_are_the_same(
    sampled: Path, policy: Path, tmp_path: Path
) -> None:
    renderer = ChatRenderer(load_tokenizer(ModelSource(path=str(policy))))
    rows = {
        r["pair_id"]: r for r in read_rows(sampled / "preference_pairs.parquet", PREFERENCE_PAIRS)
    }
    cache = DiskCache(tmp_path / "cache", 1 << 30)

    def opened(folder: Path) -> Any:
        source = PairSource(folder / PREFERENCE_PAIRS.file_name, PREFERENCE_PAIRS)
        return open_pairs([source], renderer, None, cache, Rejects("preference_pairs"))

    table = opened(sampled)
    for pair in view_pairs(table, table.split("train")):
        row = rows[pair.key]
        drawn = [row["chosen_token_ids"], row["rejected_token_ids"]]
        assert [list(branch) for branch in pair.branches][-2:] == drawn
    assert table.numbers(DRAWN).sum() == 2 * len(table)
    # A tiny model writes bytes at random: their text comes back as other tokens.
    assert 0 < table.numbers(DRAWN_OTHERWISE).sum() <= 2 * len(table)
    imitating = [{"role": "assistant", "content": "<|im_end|>"}]
    others = [{**row, "tokens_of": "another tokenizer"} for row in rows.values()]
    others[0] |= {"pair_id": "imitating", "chosen": imitating}
    write_table(tmp_path / PREFERENCE_PAIRS.file_name, PREFERENCE_PAIRS, others)
    as_text = opened(tmp_path)
    assert not as_text.count(DRAWN)
    assert as_text.count(NEUTRALISED) == 1


def test_the_trainer_agrees_with_the_sampler_on_every_token(
    sampled: Path, policy: Path, tmp_path: Path
) -> None:
    source = ModelSource(path=str(policy))
    model, renderer = (
        load_causal_lm(source, torch.device("cpu")),
        ChatRenderer(load_tokenizer(source)),
    )
    context = StageContext({"label": sampled}, tmp_path)
    name = model_fingerprint(source)
    drift = sampler_drift(model, name, renderer, context, "float32")
    assert drift is not None
    assert drift.tokens > 40
    assert drift.p99 < 1e-3
    assert drift.warning() is None
    assert "do not run the same model" in (replace(drift, p99=0.011).warning() or "")
    assert sampler_drift(model, "another policy", renderer, context, "float32") is None
    assert Drift(1, 0.0, 0.04, 0.05).warning() is None
