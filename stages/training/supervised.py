"""Supervised training: negative log-likelihood of completion tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.stage import StageContext
from stages.training.config import TrainingConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class TokenExample:
    """One example in tokens. `key` is a unique id; only `completion_ids` are trained."""

    key: str
    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]


@dataclass(frozen=True)
class SupervisedResult:
    """`counts` for the manifest; `metrics` of the last step, held-out ones prefixed `eval_`."""

    counts: Mapping[str, int]
    metrics: Mapping[str, float]


def train_supervised(
    model: "PreTrainedModel",
    examples: Sequence[TokenExample],
    held_out: Sequence[TokenExample],
    config: TrainingConfig,
    context: StageContext,
    title: str,
) -> SupervisedResult:
    """Train `model` in place; resumes from `context.output / "checkpoints"` where there is one.

    Writes metrics.jsonl and metrics.parquet into `context.output`. The checkpoints stay until the
    caller has published the model and calls `remove_checkpoints(context.output)`
    (stages.training.checkpoints), so that a kill in between costs nothing.
    The model must be on its device (`torch_device(context.runtime)`) and in float32.
    Neither list may hold an example longer than the model takes.

    Raises:
        DataError: no examples.
        BackendError: the loss is not finite; names the step and the examples.
    """
    raise NotImplementedError
