"""Every kind of causal language model: scored, trained from ln 2 on, and sampled as it is."""

import math
import os
import warnings
from typing import Any

import pytest
import torch

from evals.models.logps import completion_logps
from evals.models.rendering import RenderedCompletion
from evals.models.samplers.config import SamplingSettings
from evals.models.samplers.decoding import decode
from evals.models.samplers.prompts import PromptTokens
from schemas.stage import SilentProgress
from stages.training.config import TrainingConfig
from stages.training.engines.choose import Engine, open_engine
from stages.training.losses.config import SigmoidLoss
from stages.training.objectives.preference import PairExample, PreferenceObjective, pair_logps
from tests.fixtures.architectures import language_models, small_model

# One of each kind: dense, tied, window, soft-capped, hybrid, state-space, experts, latent
# attention, ALiBi, learned positions.
SAMPLED = (
    *("llama", "qwen3", "gemma2", "gemma3_text", "cohere", "gpt2", "gpt_neox", "mixtral"),
    *("lfm2", "mamba", "deepseek_v3", "mistral"),
    "exaone4",  # whose norms read heads before tokens
)
TYPES = language_models() if os.environ.get("PREFLINE_ALL_ARCHITECTURES") else SAMPLED
PAIRS = [
    PairExample("a", [5, 9, 3, 7], [8, 6, 4, 2], [11, 2]),
    PairExample("b", [3, 4, 5, 6, 7, 8, 9, 10, 11], [12, 13, 2], [14, 15, 16, 17, 18, 2]),
    PairExample("c", [20, 21], [22, 2], [23, 24, 2]),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", TYPES)
def test_scored_trained_and_sampled_alike(model_type: str) -> None:
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = small_model(model_type)
        except Exception as error:
            if model_type in SAMPLED:
                raise
            said = str(error).strip().partition("\n")[0]
            pytest.skip(f"cannot be made small: {type(error).__name__}: {said}")
        _logps_do_not_depend_on_the_batch(model)
        _training_begins_at_ln_2(model)
        _samples_have_the_logps_of_their_tokens(model)


def alone(model: Any, prompt: list[int], ids: list[int]) -> float:
    with torch.no_grad():
        return float(completion_logps(model, [RenderedCompletion(prompt, ids)])[0])


def _logps_do_not_depend_on_the_batch(model: Any) -> None:
    rows = [RenderedCompletion(list(p.prompt_ids), list(p.chosen_ids)) for p in PAIRS]
    with torch.no_grad():
        together = completion_logps(model, rows)
    each = [alone(model, row.prompt_ids, row.completion_ids) for row in rows]
    assert together.tolist() == pytest.approx(each, abs=1e-3)


def referenced(model: Any, engine: Engine) -> list[PairExample]:
    """Pairs scored one by one, as the reference pass does."""
    scored = []
    for pair in PAIRS:
        chosen, rejected = (float(t[0]) for t in pair_logps(model, engine, [pair]))
        parts = (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids)
        scored.append(PairExample(pair.key, *parts, chosen, rejected))
    return scored


def _training_begins_at_ln_2(model: Any) -> None:
    engine = open_engine(model, TrainingConfig(), SilentProgress())
    objective = PreferenceObjective(SigmoidLoss(), engine)
    pairs = referenced(model, engine)
    together = objective.measure(model, pairs)
    for index, pair in enumerate(PAIRS):
        said = float(together["chosen"][index])
        assert said == pytest.approx(
            alone(model, list(pair.prompt_ids), list(pair.chosen_ids)), abs=1e-3
        )
    # `loss` is the total; a mixture of experts has its router's term beside the preference.
    preference = together.get("preference_loss", together["loss"])
    assert preference.tolist() == pytest.approx([math.log(2)] * 3, abs=1e-5)
    model.zero_grad()
    objective.accumulate(model, pairs, 1 / 3)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(g.isfinite().all() for g in gradients)
    assert any(g.abs().max() > 0 for g in gradients)
    model.zero_grad()


def _samples_have_the_logps_of_their_tokens(model: Any) -> None:
    prompts = [[5, 9, 3, 7, 4, 6, 8], [2, 6, 1], [2, 6, 1], [30, 31, 32, 33]]
    rows = [PromptTokens(i, ids, seed=i) for i, ids in enumerate(prompts)]
    with torch.inference_mode():
        made = decode(model, rows, SamplingSettings(max_tokens=6), end_ids=[2, 3, 40, 41])
        single = [
            decode(model, [row], SamplingSettings(max_tokens=6), [2, 3, 40, 41])[0] for row in rows
        ]
    for prompt, (ids, said), (again, _) in zip(prompts, made, single, strict=True):
        assert sum(said) == pytest.approx(alone(model, prompt, ids), abs=2e-3)
        assert ids == again


def test_longrope_reads_short_rows_as_short_beside_long_ones() -> None:
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [8.0, 4.0, 2.0, 1.0],
        "original_max_position_embeddings": 12,
        "factor": 4.0,
    }
    model = small_model(
        "phi3", rope_parameters=rope, original_max_position_embeddings=12, sliding_window=None
    )
    long = PairExample("long", list(range(3, 12)), list(range(20, 29)), [30, 2])  # across
    pairs = [*PAIRS, long]
    rows = [RenderedCompletion(list(p.prompt_ids), list(ids)) for p in pairs for ids in p.branches]
    each = [alone(model, row.prompt_ids, row.completion_ids) for row in rows]
    with torch.no_grad():
        together = completion_logps(model, rows)
        by_transformers = model(
            torch.tensor([[*range(3, 12), *range(20, 29)], [*range(3, 12), 30, 2, *([0] * 7)]])
        ).logits.log_softmax(-1)
    assert together.tolist() == pytest.approx(each, abs=1e-4)
    beside_a_long_one = by_transformers[1, 8, 30] + by_transformers[1, 9, 2]
    assert abs(float(beside_a_long_one) - each[-1]) > 1e-3  # what grouping by length avoids
    progress = SilentProgress()
    engine = open_engine(model, TrainingConfig(), progress)
    chosen, rejected = pair_logps(model, engine, pairs)
    both = [
        value for pair in zip(chosen.tolist(), rejected.tolist(), strict=True) for value in pair
    ]
    assert both == pytest.approx(each, abs=1e-4)
