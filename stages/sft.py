"""sft: teaches a model the demonstrations, so that the policy starts in distribution."""

from collections.abc import Iterator, Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from evals.models.checkpoints import ModelSource
from schemas.errors import DataError
from schemas.labels import Messages
from schemas.stage import Config, Stage, StageContext
from schemas.work import Known, Work
from stages.training.config import TrainingConfig, continuation_of
from stages.training.from_scratch import VLLM_HEAD_SIZES, FromScratch
from stages.training.plan import steps_of_work

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from stages.training.screening import Rejects
    from stages.training.token_store import TokenItem, TokenTable


class SftConfig(Config):
    """Supervised training on the demonstrations of ingest."""

    model: ModelSource | None = Field(None, description="the model to start from")
    from_scratch: FromScratch | None = Field(
        None, description="or the shape of a new model, its tokenizer trained on the spot"
    )
    training: TrainingConfig = Field(TrainingConfig(), description="how to train")

    @model_validator(mode="after")
    def _one_start(self) -> "SftConfig":
        if (self.model is None) == (self.from_scratch is None):
            raise ValueError("give exactly one of model and from_scratch")
        return self


def run(config: SftConfig, context: StageContext) -> Mapping[str, int]:
    """Train on demonstrations of the train split, measure on those of the test split.

    Raises:
        DataError: there are no demonstrations to train on.
    """
    from evals.models.checkpoints import save_checkpoint
    from stages.training.adapters import add_lora, fold_adapter
    from stages.training.checkpoints import remove_checkpoints
    from stages.training.distributed import current_world
    from stages.training.screening import Rejects
    from stages.training.supervised import train_supervised, view_examples

    path = _demonstrations(context)
    model, tokenizer = _start(config, context, path)
    rejects = Rejects("demonstrations")
    table = _examples(config, context, model, tokenizer, path, rejects)
    train, held_out = (view_examples(table, table.split(name)) for name in ("train", "test"))
    table.refuse_foreign_tokens(model.config.get_text_config().vocab_size)
    if rejects.rows:
        context.progress.note(f"sft: rows that are not trained on: {rejects.describe()}")
    if not train:
        raise DataError(
            f"sft: every demonstration of the train split was rejected ({rejects.describe()}); "
            "raise training.max_length, or look into the rows that ingest kept"
        )
    if config.training.lora:
        model = add_lora(model, config.training.lora, config.training.seed)
    result = train_supervised(model, train, held_out, config.training, context, "sft")
    if not current_world().is_main:
        return {}
    rejects.write(context.output)
    save_checkpoint(fold_adapter(model), tokenizer, context.output / "model")
    if not (context.runtime.keep_training_state and config.training.can_be_continued):
        remove_checkpoints(context.output)
    rows_in = len(table) + len(rejects.rows)
    return {"rows_in": rows_in, **result.counts, **rejects.counts()}


def _demonstrations(context: StageContext) -> Path:
    """The table of demonstrations, some of which are of the train split."""
    from schemas.tables import DEMONSTRATIONS
    from stages.training.tokens import has_split

    path = context.input("ingest", DEMONSTRATIONS.file_name)
    if not has_split(path, DEMONSTRATIONS, "train"):
        raise DataError(
            f"{path}: no demonstrations in the train split; add a dataset that has some to "
            "[ingest], or leave [sft] out and name a start model"
        )
    return path


def _start(
    config: SftConfig, context: StageContext, demonstrations: Path
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The model to train, in float32 on its device, and its tokenizer."""
    from evals.models.checkpoints import load_causal_lm, load_tokenizer
    from stages.training.adapters import fold_adapter
    from stages.training.distributed import loading_device
    from stages.training.from_scratch import (
        conversation_texts,
        initial_model,
        train_tokenizer,
    )

    device = loading_device(context.runtime)
    if config.model:
        model = fold_adapter(load_causal_lm(config.model, device))
        return model, load_tokenizer(config.model)
    shape = config.from_scratch
    assert shape is not None
    if shape.head_size not in VLLM_HEAD_SIZES:
        context.progress.warn(
            f"sft: heads of {shape.head_size} dimensions: vLLM takes "
            f"{', '.join(map(str, sorted(VLLM_HEAD_SIZES)))}; sample with transformers"
        )
    texts = conversation_texts(shape, _conversations(context, demonstrations))
    tokenizer = train_tokenizer(shape, texts)
    return initial_model(shape, tokenizer, config.training.seed).to(device), tokenizer


def _conversations(context: StageContext, demonstrations: Path) -> Iterator[Messages]:
    """Every conversation of the train split as the policy and as a judge will see it."""
    from evals.judges.layout import comparison_chat
    from schemas.labels import Comparison, Preference
    from schemas.parquet import iter_batches
    from schemas.tables import COMPARISONS, DEMONSTRATIONS

    for batch in iter_batches(demonstrations, DEMONSTRATIONS):
        for row in batch.to_pylist():
            if row["split"] == "train":
                yield [*row["prompt"], *row["completion"]]
    path = context.input("ingest", COMPARISONS.file_name)
    labels = cycle(Preference)
    fields = ("comparison_id", "prompt_id", "prompt", "completion_a", "completion_b")
    for batch in iter_batches(path, COMPARISONS):
        for row in batch.to_pylist():
            if row["split"] == "train":
                chat = comparison_chat(Comparison(*(row[name] for name in fields)))
                yield [*chat, {"role": "assistant", "content": next(labels).value}]


def _examples(
    config: SftConfig,
    context: StageContext,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    path: Path,
    rejects: "Rejects",
) -> "TokenTable":
    """All demonstrations that can be used, in tokens; the others go to `rejects`."""
    from evals.models.rendering import ChatRenderer
    from schemas.ids import file_sha256
    from schemas.parquet import iter_batches
    from schemas.tables import DEMONSTRATIONS
    from stages.training.disk_cache import open_cache
    from stages.training.rendering import Candidate, token_items
    from stages.training.screening import length_limit
    from stages.training.tokens import cached_tokens

    renderer = ChatRenderer(tokenizer)
    limit = length_limit(config.training.max_length, model.config)

    def batches(aside: "Rejects") -> "Iterator[list[TokenItem]]":
        for batch in iter_batches(path, DEMONSTRATIONS, batch_rows=1024):
            candidates = [
                Candidate(row["demonstration_id"], row, (row["completion"],))
                for row in batch.to_pylist()
            ]
            yield list(token_items(renderer, candidates, limit, aside))

    made_of = [renderer.fingerprint, str(limit), file_sha256(path)]
    return cached_tokens(open_cache(context), made_of, batches, rejects, parts=2)


def _files(config: SftConfig) -> list[Path]:
    return config.model.files() if config.model else []


def _work(config: SftConfig, known: Known) -> Work:
    return steps_of_work(config.training, known.get("ingest", {}).get("demonstrations/train"))


STAGE = Stage(
    name="sft",
    summary="train the start policy on demonstrations",
    config=SftConfig,
    inputs=("ingest",),
    run=run,
    version=4,
    files=_files,
    work=_work,
    continuation=continuation_of,
    trains=lambda config: True,
)
