"""Training of a preference model: every comparison in both orders, one token each."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evals.judges.label_scoring import prompt_limit
from evals.judges.label_tokens import LabelTokens
from evals.judges.preference_model import MODEL_FOLDER, PreferenceModelJudge
from evals.models.checkpoints import (
    ModelSource,
    load_causal_lm,
    load_tokenizer,
    save_checkpoint,
    torch_device,
)
from schemas.errors import ConfigError
from schemas.labels import LabeledComparison, Order
from schemas.stage import StageContext
from stages.training.adapters import add_lora, fold_adapter
from stages.training.checkpoints import remove_checkpoints
from stages.training.config import TrainingConfig
from stages.training.supervised import TokenExample, train_supervised

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def start_model(judge: PreferenceModelJudge, context: StageContext) -> ModelSource:
    """The model that training begins from: the one named, else the one that [sft] made.

    Raises:
        ConfigError: no model is named and the recipe has no [sft].
    """
    if judge.model is not None:
        return judge.model
    if not context.has("sft"):
        raise ConfigError(
            "judge.judge.model: name the model to train, or give the recipe an [sft] stage"
        )
    return ModelSource(path=str(context.input("sft", "model")))


@dataclass(frozen=True)
class Tokenised:
    """Examples of both orders, and by index of the comparison why it has none."""

    examples: Sequence[TokenExample]
    too_long: dict[int, str]


def tokenise(
    labels: LabelTokens, comparisons: Sequence[LabeledComparison], max_tokens: int
) -> Tokenised:
    """Two examples per comparison; where either order is too long, none."""
    examples: list[TokenExample] = []
    too_long: dict[int, str] = {}
    for index, unit in enumerate(comparisons):
        both = examples_of(labels, unit)
        longest = max(len(e.prompt_ids) + len(e.completion_ids) for e in both)
        if longest > max_tokens:
            too_long[index] = f"{longest} tokens; at most {max_tokens} are trained on"
        else:
            examples += both
    return Tokenised(examples, too_long)


def examples_of(labels: LabelTokens, unit: LabeledComparison) -> list[TokenExample]:
    """The comparison as it stands and exchanged: what scoring reads, and the one right token."""
    shown = {Order.AB: unit, Order.BA: unit.swap()}
    return [
        TokenExample(
            key=f"{unit.comparison.comparison_id}:{order}",
            prompt_ids=labels.prompt_ids(one.comparison),
            completion_ids=[labels.ids[one.label]],
        )
        for order, one in shown.items()
    ]


class PreferenceModelTraining:
    """A model on its way to becoming a judge; `context.output`/model/ is where it ends up."""

    def __init__(
        self, judge: PreferenceModelJudge, training: TrainingConfig, context: StageContext
    ) -> None:
        """Opens tokenizer and model. Raises what opening them raises."""
        source = start_model(judge, context)
        self._training = training
        self._context = context
        self._tokenizer = load_tokenizer(source)
        self._model = _trainable(load_causal_lm(source, torch_device(context.runtime)))
        self.labels = LabelTokens(self._tokenizer, judge.chat)
        limit = prompt_limit(self._model, judge) + 1  # the label's token
        self.max_tokens = min(limit, training.max_length or limit)

    def tokenise(self, comparisons: Sequence[LabeledComparison]) -> Tokenised:
        """Comparisons to examples that the model can take."""
        return tokenise(self.labels, comparisons, self.max_tokens)

    def run(self, train: Sequence[TokenExample], held_out: Sequence[TokenExample]) -> None:
        """Train and publish model/; does nothing where a killed run had come that far."""
        folder = self._context.output / MODEL_FOLDER
        if not folder.exists():
            self._train(train, held_out)
            writing = folder.with_name(f"{MODEL_FOLDER}.writing")
            shutil.rmtree(writing, ignore_errors=True)
            save_checkpoint(self._model, self._tokenizer, writing)
            os.replace(writing, folder)
        remove_checkpoints(self._context.output)

    def _train(self, train: Sequence[TokenExample], held_out: Sequence[TokenExample]) -> None:
        lora, seed = self._training.lora, self._training.seed
        model = add_lora(self._model, lora, seed) if lora else self._model
        train_supervised(model, train, held_out, self._training, self._context, "train the judge")
        self._model = fold_adapter(model)


def _trainable(model: "PreTrainedModel") -> "PreTrainedModel":
    """Plain weights that learn: an adapter, which comes frozen, is folded in."""
    plain: PreTrainedModel = fold_adapter(model)
    plain.requires_grad_(True)
    return plain
