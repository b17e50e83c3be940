"""A tiny model, and examples and pairs of random tokens of many lengths."""

import random
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.models.checkpoints import ModelSource, load_causal_lm
from schemas.stage import StageContext
from stages.training.config import TrainingConfig
from stages.training.objectives.preference import PairExample
from stages.training.objectives.supervised import TokenExample
from tests.fixtures.tiny_models import tiny_llama


@pytest.fixture(scope="session")
def start_model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)
    folder = tiny_llama(tmp_path_factory.mktemp("start"), hidden_size=32, layers=1, spread=0.2)
    return load_causal_lm(ModelSource(path=str(folder)), torch.device("cpu"))


@pytest.fixture
def new_model(start_model: Any) -> Callable[[], Any]:
    """Makes an own copy of the start model."""
    return lambda: deepcopy(start_model)


@pytest.fixture
def examples() -> list[TokenExample]:
    numbers = random.Random(1)

    def tokens(longest: int) -> list[int]:
        return [numbers.randrange(4, 260) for _ in range(numbers.randint(1, longest))]

    return [TokenExample(f"example-{i}", tokens(12), tokens(6)) for i in range(21)]


@pytest.fixture
def pairs(examples: list[TokenExample]) -> list[PairExample]:
    return [
        PairExample(f"pair-{i:02}", list(a.prompt_ids), list(a.completion_ids), [9, i, 2])
        for i, a in enumerate(examples)
    ]


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    return StageContext(inputs={}, output=tmp_path)


@pytest.fixture
def config() -> TrainingConfig:
    return TrainingConfig(
        learning_rate=1e-2, batch_size=8, num_epochs=3, eval_every=2, save_every=2, seed=3
    )
