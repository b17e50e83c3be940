"""Completion log-probabilities against the definition: log_softmax over all positions, summed."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evals.models.checkpoints import ModelSource, load_causal_lm
from evals.models.logps import (
    MOST_PADDING,
    alike_in_length,
    completion_logps,
    completion_scores,
)
from evals.models.rendering import RenderedCompletion
from tests.fixtures.tiny_models import tiny_llama

SEQUENCES = [
    RenderedCompletion([5, 6, 7], [8, 9]),
    RenderedCompletion([5], [6]),
    RenderedCompletion([9, 4, 3, 2, 1, 40, 41], [50]),
    RenderedCompletion([11], [12, 13, 14, 15, 16, 17, 18]),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tiny_llama(tmp_path_factory.mktemp("llama"))
    return load_causal_lm(ModelSource(path=str(folder)), torch.device("cpu"))


def by_definition(model: Any, prompt: Sequence[int], completion: Sequence[int]) -> float:
    ids = [*prompt, *completion]
    with torch.no_grad():
        table = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    places = range(len(prompt) - 1, len(ids) - 1)
    return sum(float(table[p, ids[p + 1]]) for p in places)


def test_equals_naive_log_softmax_whatever_shares_the_batch(model: Any) -> None:
    expected = [by_definition(model, s.prompt_ids, s.completion_ids) for s in SEQUENCES]
    together = completion_logps(model, SEQUENCES)
    alone = [float(completion_logps(model, [s])[0].detach()) for s in SEQUENCES]
    assert together.dtype == torch.float64
    assert together.tolist() == pytest.approx(expected, abs=1e-4)
    assert alone == pytest.approx(expected, abs=1e-4)


def test_padding_id_is_never_read(model: Any) -> None:
    first, second = (completion_logps(model, SEQUENCES, pad_id=i) for i in (0, 123))
    assert torch.equal(first, second)


def test_left_padding_with_a_mask_gives_the_same(model: Any) -> None:
    sequence = SEQUENCES[0]
    ids = [*sequence.prompt_ids, *sequence.completion_ids]
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([[0, 0, 0, *ids]]),
            attention_mask=torch.tensor([[0, 0, 0] + [1] * len(ids)]),
            position_ids=torch.tensor([[0, 0, 0, *range(len(ids))]]),
        ).logits[0, 3:]
    table = logits.double().log_softmax(-1)
    expected = float(table[2, ids[3]] + table[3, ids[4]])
    ours = float(completion_logps(model, SEQUENCES)[0].detach())
    assert ours == pytest.approx(expected, abs=1e-4)


def test_gradients_are_those_of_the_definition(model: Any) -> None:
    weight = model.model.layers[0].mlp.up_proj.weight
    (ours,) = torch.autograd.grad(completion_logps(model, SEQUENCES[:1]).sum(), weight)
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    table = model(input_ids=ids).logits[0].log_softmax(-1)
    (naive,) = torch.autograd.grad(table[2, 8] + table[3, 9], weight)
    assert torch.allclose(ours, naive, atol=1e-4)


def test_head_sees_only_completion_positions(model: Any) -> None:
    seen: list[tuple[int, ...]] = []
    hook = model.lm_head.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape)))
    completion_logps(model, SEQUENCES)
    hook.remove()
    assert seen == [(1, 2 + 1 + 1 + 7, model.config.vocab_size)]
    assert model(input_ids=torch.tensor([[1, 2, 3]])).logits.shape[1] == 3  # the hook is gone


def test_correct_counts_greedy_tokens(model: Any) -> None:
    with torch.no_grad():
        best = int(model(input_ids=torch.tensor([[5, 6]])).logits[0, -1].argmax())
    sequences = [RenderedCompletion([5, 6], [best]), RenderedCompletion([5, 6], [best ^ 1])]
    scores = completion_scores(model, sequences, count_correct=True)
    assert scores.correct is not None
    assert scores.correct.tolist() == [1, 0]


@pytest.mark.parametrize("empty", [RenderedCompletion([], [1]), RenderedCompletion([1], [])])
def test_empty_sides_are_refused(model: Any, empty: RenderedCompletion) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        completion_logps(model, [empty])


@given(st.lists(st.integers(1, 400)), st.integers(1, 8))
def test_rows_that_share_a_pass_are_alike_in_length_and_none_is_lost(
    lengths: list[int], size: int
) -> None:
    rows = [[0] * n for n in lengths]
    batches = list(alike_in_length(rows, size))
    assert [row for batch in batches for row in batch] == rows
    for batch in batches:
        assert 0 < len(batch) <= size
        assert max(map(len, batch)) <= MOST_PADDING * min(map(len, batch))
    for one, following in pairwise(batches):  # none is cut sooner than it must be
        joined = [len(row) for row in [*one, following[0]]]
        assert len(joined) > size or max(joined) > MOST_PADDING * min(joined)
