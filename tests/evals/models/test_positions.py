"""How many tokens a model was made for, also where its language model is a part of it."""

import pytest
from transformers import Gemma3Config, GPT2Config, LlamaConfig, PretrainedConfig

from evals.models.checkpoints import positions_of
from stages.training.data.rows.rejects import length_limit

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 16, "max_position_embeddings": 48}


def composite() -> PretrainedConfig:
    config = Gemma3Config(text_config=dict(TINY), vision_config={"hidden_size": 8})
    assert not hasattr(config, "max_position_embeddings"), "asking the whole finds nothing"
    return config


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        (composite(), 48),
        (LlamaConfig(max_position_embeddings=64), 64),
        (GPT2Config(n_positions=32), 32),
        (PretrainedConfig(), None),
    ],
)
def test_positions_of_any_model(config: PretrainedConfig, positions: int | None) -> None:
    assert positions_of(config) == positions


@pytest.mark.parametrize(("max_length", "limit"), [(None, 48), (16, 16), (100, 48)])
def test_training_a_composite_model_has_a_length_limit(max_length: int | None, limit: int) -> None:
    assert length_limit(max_length, composite()) == limit
    assert length_limit(max_length, PretrainedConfig()) == max_length
