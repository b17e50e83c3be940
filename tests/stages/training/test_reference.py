"""The reference pass: right, computed once ever, resumable, and never another one's."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evals.models.checkpoints import ModelSource, load_tokenizer
from evals.models.hub import forget_pins
from schemas.errors import BackendError, StaleInputError
from schemas.parquet import read_rows
from schemas.stage import SilentProgress
from stages.training.config import TrainingConfig
from stages.training.data.disk_cache import DiskCache
from stages.training.data.reference_policy.reference import (
    REFERENCE_LOGPS,
    PairScorer,
    ReferencePass,
    open_reference,
    reference_fingerprint,
)
from stages.training.data.reference_policy.reference_cache import ReferenceCache, tokens_digest
from stages.training.engines.choose import PaddedEngine
from stages.training.objectives.preference import PairExample, pair_logps
from tests.fixtures.local_hub import LocalHub
from tests.fixtures.tiny_models import byte_level_tokenizer, tiny_llama

NAME = REFERENCE_LOGPS.file_name


class Counting:
    """A scorer that counts pairs, and dies before the call of that number."""

    def __init__(self, model: Any, config: TrainingConfig, dies_at: int | None = None) -> None:
        self.scorer = PairScorer(lambda: model, config, SilentProgress())
        self.pairs, self.calls, self.dies_at = 0, 0, dies_at

    def __call__(self, pairs: Sequence[PairExample]) -> Any:
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        self.calls += 1
        self.pairs += len(pairs)
        return self.scorer(pairs)


@pytest.fixture
def cache(tmp_path: Path) -> ReferenceCache:
    return ReferenceCache(DiskCache(tmp_path / "cache", 10**9), "one", "highest", "cpu")


@pytest.fixture
def scorer(start_model: Any, config: TrainingConfig) -> Counting:
    return Counting(start_model, config)


def computed(
    folder: Path, pairs: Sequence[PairExample], cache: ReferenceCache, scorer: Counting
) -> bytes:
    folder.mkdir(exist_ok=True)
    ReferencePass(folder, "one", pairs, cache).compute(scorer, SilentProgress())
    return (folder / NAME).read_bytes()


def test_log_probabilities_are_the_models_and_joined_by_id(
    start_model: Any,
    pairs: list[PairExample],
    cache: ReferenceCache,
    scorer: Counting,
    tmp_path: Path,
) -> None:
    first = ReferencePass(tmp_path, "one", pairs, cache)
    assert not first.is_finished
    first.compute(scorer, SilentProgress())
    again = ReferencePass(tmp_path, "one", list(reversed(pairs)), cache)
    assert again.is_finished
    attached = again.attach(list(reversed(pairs)))
    chosen, rejected = pair_logps(start_model, PaddedEngine(), list(reversed(pairs)))
    assert [pair.key for pair in attached] == [pair.key for pair in reversed(pairs)]
    assert [p.reference_chosen for p in attached] == pytest.approx(chosen.tolist(), abs=1e-4)
    assert [p.reference_rejected for p in attached] == pytest.approx(rejected.tolist(), abs=1e-4)
    assert attached[2:5][1] == attached[3]
    with pytest.raises(StaleInputError, match="another reference policy"):
        _ = ReferencePass(tmp_path, "two", pairs, cache).is_finished
    assert not ReferencePass(tmp_path, "one", pairs[1:], cache).is_finished


def test_a_table_that_is_not_as_it_was_written_is_made_again(
    pairs: list[PairExample], cache: ReferenceCache, scorer: Counting, tmp_path: Path
) -> None:
    whole = computed(tmp_path, pairs, cache, scorer)
    found = ReferencePass(tmp_path, "one", pairs, cache)
    assert found.is_finished
    for at in range(10, len(whole), len(whole) // 7):
        (tmp_path / NAME).write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert not found.is_finished
        assert computed(tmp_path, pairs, cache, scorer) == whole
    assert scorer.pairs == len(pairs)  # the cache knows them


def test_another_run_computes_only_what_nobody_has_computed(
    pairs: list[PairExample], cache: ReferenceCache, scorer: Counting, tmp_path: Path
) -> None:
    computed(tmp_path / "first", pairs[:15], cache, scorer)
    assert scorer.pairs == 15
    some = computed(tmp_path / "other-run", pairs[3:15], cache, scorer)
    assert scorer.pairs == 15
    more = computed(tmp_path / "more-pairs", pairs, cache, scorer)
    assert scorer.pairs == len(pairs)
    # The same tokens under another id are the same pair to the reference.
    renamed = [replace(pair, key=f"renamed-{pair.key}") for pair in pairs]
    computed(tmp_path / "renamed", renamed, cache, scorer)
    assert scorer.pairs == len(pairs)
    assert some != more


def test_on_a_cpu_a_pair_has_the_same_bits_whatever_is_computed_beside_it(
    pairs: list[PairExample], scorer: Counting, tmp_path: Path
) -> None:
    def cold(name: str) -> ReferenceCache:
        return ReferenceCache(DiskCache(tmp_path / name, 10**9), "one")

    at_once = computed(tmp_path / "a", pairs, cold("a-cache"), scorer)
    in_parts = cold("b-cache")
    computed(tmp_path / "b", pairs[7:9], in_parts, scorer)
    computed(tmp_path / "b", pairs[2:12], in_parts, scorer)
    assert computed(tmp_path / "b", pairs, in_parts, scorer) == at_once


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_scorer_gives_its_answers_in_the_order_of_the_pairs(
    start_model: Any, pairs: list[PairExample], config: TrainingConfig, dtype: str
) -> None:
    half = config.model_copy(update={"dtype": dtype})
    score = PairScorer(lambda: start_model, half, SilentProgress())
    forth, back = score(pairs), score(list(reversed(pairs)))
    assert np.array_equal(forth, back[::-1])
    assert forth.shape == (len(pairs), 2)


def test_the_model_is_not_opened_where_everything_is_known(
    pairs: list[PairExample],
    cache: ReferenceCache,
    scorer: Counting,
    config: TrainingConfig,
    tmp_path: Path,
) -> None:
    expected = computed(tmp_path / "first", pairs, cache, scorer)

    def no_model() -> Any:
        raise AssertionError("the reference was opened")

    second = ReferencePass(tmp_path, "one", pairs, cache)
    second.compute(PairScorer(no_model, config, SilentProgress()), SilentProgress())
    assert (tmp_path / NAME).read_bytes() == expected


def test_an_interrupted_pass_loses_one_shard_at_most_and_ends_with_the_same_bytes(
    start_model: Any,
    pairs: list[PairExample],
    cache: ReferenceCache,
    scorer: Counting,
    config: TrainingConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stages.training.data.reference_policy.reference._SHARD_PAIRS", 5)
    whole = computed(
        tmp_path / "whole", pairs, ReferenceCache(DiskCache(tmp_path / "w", 10**9), "one"), scorer
    )
    dying = Counting(start_model, config, dies_at=2)
    with pytest.raises(KeyboardInterrupt):
        computed(tmp_path / "cut", pairs, cache, dying)
    assert not (tmp_path / "cut" / NAME).exists()
    rest = Counting(start_model, config)
    assert computed(tmp_path / "cut", pairs, cache, rest) == whole
    assert (dying.pairs, rest.pairs) == (10, len(pairs) - 10)
    assert len(read_rows(tmp_path / "cut" / NAME, REFERENCE_LOGPS)) == len(pairs)


def test_a_damaged_shard_is_computed_again(
    pairs: list[PairExample], cache: ReferenceCache, scorer: Counting, tmp_path: Path
) -> None:
    expected = computed(tmp_path / "first", pairs, cache, scorer)
    (shard,) = (tmp_path / "cache").rglob("pair_logps.parquet")
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert computed(tmp_path / "second", pairs, cache, scorer) == expected
    assert scorer.pairs == 2 * len(pairs)


def test_a_digest_tells_where_the_prompt_ends() -> None:
    one = PairExample("a", [1, 2], [3], [4])
    assert tokens_digest(one) == tokens_digest(replace(one, key="b", reference_chosen=1.0))
    others = [
        replace(one, prompt_ids=[1], chosen_ids=[2, 3]),
        replace(one, chosen_ids=[4], rejected_ids=[3]),
        replace(one, chosen_ids=[3, 4], rejected_ids=[4]),
    ]
    assert len({tokens_digest(pair) for pair in (one, *others)}) == 4


def test_what_a_reference_is_known_by(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    one, other = (
        ModelSource(path=str(tiny_llama(tmp_path / str(seed), hidden_size=32, layers=1, seed=seed)))
        for seed in (0, 1)
    )
    tokenizer = load_tokenizer(one)
    prints = {
        reference_fingerprint(one, tokenizer, "float32"),
        reference_fingerprint(other, tokenizer, "float32"),
        reference_fingerprint(one, tokenizer, "bfloat16"),
    }
    tokenizer.chat_template = "other"
    assert len(prints | {reference_fingerprint(one, tokenizer, "float32")}) == 4


def test_a_branch_of_a_hub_model_is_known_by_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, source = LocalHub(tmp_path, monkeypatch), ModelSource(path="some/model")

    def at(seed: int) -> str:
        hub.put("some/model", tiny_llama(tmp_path / f"from-{seed}", layers=1, seed=seed))
        forget_pins()
        return reference_fingerprint(source, load_tokenizer(source), "float32")

    assert at(0) == at(0) != at(1)


def test_a_reference_that_the_hub_does_not_have_is_told_when_it_is_opened() -> None:
    source = ModelSource(path="nobody/has-this-model")
    tokenizer: Any = byte_level_tokenizer()
    assert reference_fingerprint(source, tokenizer, "float32")
    with pytest.raises(BackendError, match="nobody/has-this-model"):
        open_reference(source, tokenizer, torch.device("cpu"))
