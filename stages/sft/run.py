"""The steps of sft: a start model, demonstrations in tokens, supervised training."""

from collections.abc import Iterator, Mapping
from itertools import cycle
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.judges.layout import comparison_chat
from evals.models.checkpoints import load_tokenizer
from evals.models.rendering import ChatRenderer
from schemas.errors import DataError
from schemas.ids import file_sha256
from schemas.labels import Comparison, Messages, Preference
from schemas.parquet import iter_batches
from schemas.stage import StageContext
from schemas.tables import COMPARISONS, DECIDING, DEMONSTRATIONS
from stages.sft.config import SftConfig
from stages.sft.from_scratch import (
    VLLM_HEAD_SIZES,
    conversation_texts,
    initial_model,
    train_tokenizer,
)
from stages.training.checkpoints.adapters import trainable_start
from stages.training.checkpoints.read_back import loss_of_first, publish_whole
from stages.training.checkpoints.resume import CHECKPOINTS
from stages.training.checkpoints.saving import ModelSaver
from stages.training.data.disk_cache import open_cache
from stages.training.data.rows.rejects import Rejects, length_limit
from stages.training.data.rows.render_rows import NEUTRALISED, Candidate, token_items
from stages.training.data.rows.token_store import TokenItem, TokenTable
from stages.training.data.rows.tokens import cached_tokens, has_split
from stages.training.distributed.world import current_world, loading_device
from stages.training.objectives.supervised import train_supervised, view_examples
from stages.training.start import load_start


def run(config: SftConfig, context: StageContext) -> Mapping[str, int]:
    """Train on demonstrations of the train split, measure on those of the dev split.

    Raises:
        DataError: there are no demonstrations to train on.
    """
    path = _demonstrations(context)
    model, tokenizer = _start(config, context, path)
    rejects = Rejects("demonstrations")
    table = _examples(config, context, model, tokenizer, path, rejects)
    train, held_out = (view_examples(table, table.split(name)) for name in DECIDING)
    table.refuse_foreign_tokens(model.config.get_text_config().vocab_size)
    if rejects.rows:
        context.progress.note(f"sft: rows that are not trained on: {rejects.describe()}")
    if not train:
        raise DataError(
            f"sft: every demonstration of the train split was rejected ({rejects.describe()}); "
            "raise training.max_length, or look into the rows that ingest kept"
        )
    lora, seed = config.training.lora, config.training.seed
    model = trainable_start(model, lora, config.model.path if config.model else "", seed)
    saver = ModelSaver(config.model, tokenizer, config.training.save_dtype)
    saver.try_out(model)
    result = train_supervised(model, train, held_out, config.training, context, "sft")
    if not current_world().is_main:
        return {}
    rejects.write(context.output)
    publish_whole(model, saver, loss_of_first(held_out, train), context.output / "model")
    if not (context.runtime.keep_training_state and config.training.can_be_continued):
        context.discard(context.output / CHECKPOINTS)
    rows_in = len(table) + len(rejects.rows)
    neutralised = {"rows_neutralised": table.count(NEUTRALISED)}
    return {"rows_in": rows_in, **result.counts, **neutralised, **rejects.counts()}


def _demonstrations(context: StageContext) -> Path:
    """The table of demonstrations, some of which are of the train split."""
    path = context.input("ingest", DEMONSTRATIONS.file_name)
    if not has_split(path, DEMONSTRATIONS, "train"):
        raise DataError(
            f"{path}: no demonstrations in the train split; add a dataset that has some to "
            "[ingest], or leave [sft] out and name a start model"
        )
    return path


def _start(
    config: SftConfig, context: StageContext, demonstrations: Path
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model to train, on its device, and its tokenizer."""
    if config.model:
        model = load_start(config.model, config.training, context.runtime)
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
    model = initial_model(shape, tokenizer, config.training.seed)
    if config.training.weights == "bfloat16" and config.training.lora is None:
        model = model.bfloat16()
    return model.to(loading_device(context.runtime)), tokenizer


def _conversations(context: StageContext, demonstrations: Path) -> Iterator[Messages]:
    """Every conversation of the train split as the policy and as a judge will see it."""
    for batch in iter_batches(demonstrations, DEMONSTRATIONS, splits=("train",)):
        for row in batch.to_pylist():
            yield [*row["prompt"], *row["completion"]]
    path = context.input("ingest", COMPARISONS.file_name)
    labels = cycle(Preference)
    fields = ("comparison_id", "prompt_id", "prompt", "completion_a", "completion_b")
    for batch in iter_batches(path, COMPARISONS, splits=("train",)):
        for row in batch.to_pylist():
            chat = comparison_chat(Comparison(*(row[name] for name in fields)))
            yield [*chat, {"role": "assistant", "content": next(labels).value}]


def _examples(
    config: SftConfig,
    context: StageContext,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    rejects: Rejects,
) -> TokenTable:
    """All demonstrations that can be used, in tokens; the others go to `rejects`."""
    renderer = ChatRenderer(tokenizer)
    how, reasoning = config.training.truncation, config.training.loss_on_reasoning
    limit = length_limit(config.training.max_length, model.config)

    def batches(aside: Rejects) -> Iterator[list[TokenItem]]:
        for batch in iter_batches(path, DEMONSTRATIONS, 1024, DECIDING):
            candidates = [
                Candidate(row["demonstration_id"], row, (row["completion"],))
                for row in batch.to_pylist()
            ]
            made = token_items(renderer, candidates, limit, aside, how, reasoning=reasoning)
            yield list(made)

    made_of = [renderer.fingerprint, str(limit), how.model_dump_json(), file_sha256(path)]
    made_of += [] if reasoning else ["answers alone"]
    cache, numbers = open_cache(context), (NEUTRALISED,)
    return cached_tokens(cache, made_of, batches, rejects, parts=2, numbers=numbers)
