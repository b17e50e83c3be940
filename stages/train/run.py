"""The steps of train: pairs, their reference, and the optimisation."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.models.adapters import record_base
from evals.models.chat.checks import sound_renderer
from evals.models.checkpoints import (
    ModelSource,
    load_tokenizer,
    model_fingerprint,
)
from evals.models.rendering import ChatRenderer
from schemas.errors import ConfigError, DataError
from schemas.ids import content_id
from schemas.stage import SilentProgress, StageContext
from schemas.tables import PROMPTS
from stages.train.config import TrainConfig
from stages.train.unpaired import Alone
from stages.training.checkpoints.adapters import (
    changes_a_tie,
    fold_adapter,
    is_adapted,
    trainable_start,
)
from stages.training.checkpoints.four_bits import weight_format
from stages.training.checkpoints.read_back import HeldOutLoss, loss_of_first, read_back
from stages.training.checkpoints.resume import CHECKPOINTS
from stages.training.checkpoints.retention import PUBLISHED, KeptCheckpoints
from stages.training.checkpoints.saving import ModelSaver
from stages.training.data.disk_cache import open_cache
from stages.training.data.pair_weights import (
    clearest,
    effective_pairs,
    length_controlled,
    repeated,
    weigh_pairs,
)
from stages.training.data.pairs import open_pairs, pair_sources, view_pairs
from stages.training.data.reference_policy.drift import sampler_drift
from stages.training.data.reference_policy.reference import (
    PairScorer,
    ReferencePass,
    open_reference,
    reference_fingerprint,
)
from stages.training.data.reference_policy.reference_cache import ReferenceCache
from stages.training.data.rows.rejects import Rejects, length_limit
from stages.training.data.rows.render_rows import DRAWN, DRAWN_OTHERWISE, NEUTRALISED
from stages.training.data.rows.token_store import Rows, TokenTable
from stages.training.data.singles import Singles
from stages.training.distributed.sharding import collected, save_collected, sharded
from stages.training.distributed.world import computing_device, current_world
from stages.training.engines.choose import open_engine
from stages.training.loop import TrainingRun, train
from stages.training.losses.config import KtoLoss
from stages.training.monitoring.generations import Generations, fixed_prompts
from stages.training.monitoring.guard import Guard
from stages.training.monitoring.metrics import Row
from stages.training.monitoring.observers import Observer
from stages.training.monitoring.reporters import refuse_missing_reporters
from stages.training.monitoring.summary import write_summary
from stages.training.objectives.following import FollowingReference
from stages.training.objectives.preference import PairExample, PreferenceObjective
from stages.training.schedule import StepPlan
from stages.training.start import load_start


def run(config: TrainConfig, context: StageContext) -> Mapping[str, int]:
    """Train the policy, measured on held-out pairs; publishes the checkpoint that `publish` asks.

    Raises:
        DataError: no pair is left to train on.
        ConfigError: there is no model to start from, or the reference has another tokenizer.
        StaleInputError: what an interrupted run left has another reference policy.
    """
    refuse_missing_reporters(context.runtime)
    source = _start_model(config, context)
    tokenizer = load_tokenizer(source)
    loaded = load_start(source, config.training, context.runtime)
    from_adapter = is_adapted(loaded)
    lora, seed = config.training.lora, config.training.seed
    model = trainable_start(loaded, lora, source.path, seed)
    saver = ModelSaver(source, tokenizer, config.training.save_dtype)
    saver.try_out(model)
    rejects = Rejects("preference_pairs")
    pairs = _pairs(config, context, model.config, tokenizer, rejects)
    if config.training.max_activation_gb is not None:  # refused before the reference is computed
        open_engine(model, config.training, SilentProgress(), pairs.train)
    reference = _reference(config, context, source, model, tokenizer, pairs)
    drift = sampler_drift(
        model, model_fingerprint(source), ChatRenderer(tokenizer), context, config.training.dtype
    )
    if drift and (warning := drift.warning()):
        context.progress.warn(warning)
    held_out = bool(pairs.held_out)
    guard = Guard(config.guard, config.loss.beta, context.progress, held_out=held_out)
    loss = loss_of_first(pairs.held_out, pairs.train)
    merged = (lora is not None and from_adapter and lora.start == "new") or changes_a_tie(model)
    weights = weight_format(model)
    kept = _kept_checkpoints(config, context, source, model, saver, guard, loss, merged=merged)
    observers = [*_generations(config, context, tokenizer), guard, kept]
    model, rows = _optimise(config, context, model, pairs, reference, observers)
    if not current_world().is_main:
        return {}
    published = kept.publish(model, int(rows[-1]["step"]))
    model_folder, device = context.output / PUBLISHED, model.device
    del model
    assert published.loss is not None
    checked = read_back(model_folder, loss, published.loss, device, saver.dtype, weights)
    context.progress.note(f"train: step {published.step} is published: {published.why}")
    counts = {**pairs.counts, "steps": published.final_step, **rejects.counts()}
    counts["published_step"] = published.step
    said = {
        "loss": config.loss.model_dump(),
        "method": "lora" if lora else "full",
        "read_back": checked,
        "reference": reference.fingerprint,
        "counts": counts,
        "drift": asdict(drift) if drift else None,
    }
    write_summary(context.output, said, rows, guard, published)
    rejects.write(context.output)
    context.discard(reference.seal)
    if not (context.runtime.keep_training_state and config.training.can_be_continued):
        context.discard(context.output / CHECKPOINTS)
    return counts


def _start_model(config: TrainConfig, context: StageContext) -> ModelSource:
    if config.model is None and not context.has("sft"):
        raise ConfigError("train: no model to start from: set train.model or add [sft]")
    return config.model or ModelSource(path=str(context.input("sft", "model")))


@dataclass(frozen=True)
class _Pairs:
    """Pairs to train on and to measure on, all that are used of both, and counts."""

    train: Sequence[PairExample]
    held_out: Sequence[PairExample]
    both: Sequence[PairExample]
    counts: Mapping[str, int]


def _pairs(
    config: TrainConfig,
    context: StageContext,
    model_config: Any,
    tokenizer: PreTrainedTokenizerBase,
    rejects: Rejects,
) -> _Pairs:
    """The pairs to train on and to measure on."""
    limit = length_limit(config.training.max_length, model_config)
    sources, renderer = pair_sources(context, config.pairs), sound_renderer(tokenizer)
    by = config.weights.column
    how = config.training.truncation
    reasoning = config.training.loss_on_reasoning
    table = open_pairs(
        sources, renderer, limit, open_cache(context), rejects, by, how, reasoning=reasoning
    )
    table.refuse_foreign_tokens(model_config.get_text_config().vocab_size)
    train, dev = table.split("train"), table.split("dev")
    distinct = len(train)
    unusable = len(rejects.rows)
    if distinct:
        train = _selected(config, table, train, rejects)
        train = repeated(table, train, config.repeat, config.training.seed)
    held_out = dev[: config.training.max_held_out]
    alone = Alone(config, context, renderer, limit, rejects, model_config)
    if not distinct and not len(alone.train):
        raise DataError(
            "train: no preference pair of the train split can be used "
            f"({rejects.describe() or 'there are none'}); loosen what [label] demands, raise "
            "training.max_length, or ingest more comparisons"
        )
    counts = {
        "rows_in": len(table) + unusable + alone.rows_in,
        "train": len(train),
        **({"train_distinct": len(np.unique(train))} if config.repeat else {}),
        "held_out": len(held_out),
        "held_out_unused": len(dev) - len(held_out),
    }
    drawn, otherwise = (int(np.nansum(table.numbers(name))) for name in (DRAWN, DRAWN_OTHERWISE))
    counts |= {"completions_as_drawn": drawn, "completions_drawn_otherwise": otherwise}
    counts["rows_neutralised"] = table.count(NEUTRALISED)
    if otherwise:
        context.progress.note(
            f"train: {otherwise} of {drawn} sampled completions are other tokens than their text "
            "would be rendered to; they are trained as they were drawn"
        )
    if rejects.rows:
        context.progress.note(f"train: rows that are not trained on: {rejects.describe()}")
    if isinstance(config.loss, KtoLoss):
        singles = Singles(table, train, limit, alone.table, alone.train)
        apart = Singles(table, held_out, limit, alone.table, alone.held_out)
        taken = [singles[i] for i in StepPlan(len(singles), config.training).items_used()]
        counts |= {"examples": len(singles), "held_out_examples": len(apart), **alone.counts}
        return _Pairs(singles, apart, [*taken, *apart], counts)
    if alone.unused:
        counts["unpaired_unused"] = alone.unused
        context.progress.note(
            f"train: {alone.unused} answers without a counterpart are not trained on; loss.kind = "
            "kto takes them"
        )
    tail = config.loss.tail_weight
    used = _once(train[StepPlan(len(train), config.training).items_used()])
    both = view_pairs(table, np.concatenate([used, held_out]), tail_weight=tail)
    weights = weigh_pairs(config.weights, table, train)
    if weights is not None:
        counts["effective_pairs"] = round(effective_pairs(weights[train]))
    return _Pairs(view_pairs(table, train, weights, tail), both[len(used) :], both, counts)


def _selected(config: TrainConfig, table: TokenTable, rows: Rows, rejects: Rejects) -> Rows:
    """The training pairs that `lengths` and `top` leave; the others go to the rejects."""
    alike = length_controlled(table, rows, config.lengths, config.training.seed)
    kept = clearest(table, alike, config.top)
    for before, after, reason in (
        (rows, alike, "length_difference"),
        (alike, kept, "not_among_the_clearest"),
    ):
        for row in sorted(set(before.tolist()) - set(after.tolist())):
            pair = table[row]
            sizes = [len(part) for part in pair.parts[1:]]
            about = {"pair_id": pair.key, "file": f"pair {pair.key}", "row": row}
            rejects.add(about, reason, f"completions of {sizes[0]} and {sizes[1]} tokens")
    if not len(kept):
        raise DataError(
            "train: no training pair is left by train.lengths and train.top; raise "
            "lengths.max_difference, or leave them out"
        )
    return kept


def _once(rows: Rows) -> Rows:
    """The rows, each at its first place only."""
    first: Rows = rows[np.sort(np.unique(rows, return_index=True)[1])]
    return first


def _reference(
    config: TrainConfig,
    context: StageContext,
    source: ModelSource,
    start: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: _Pairs,
) -> ReferencePass:
    """The reference's log-probabilities of all pairs, from disk or from one pass."""
    training, device = config.training, start.device
    other = config.reference or _reference_of_rounds(context)
    if other is not None and config.follow is not None:
        raise ConfigError(
            "train.follow: a reference that follows the policy begins as the policy does; leave "
            "train.reference out, or train.follow"
        )
    fingerprint = reference_fingerprint(other or source, tokenizer, training.dtype)
    weights = weight_format(start)
    if weights != "float32":
        fingerprint = content_id("weights", fingerprint, weights)
    if config.loss.tail_weight != 1:
        fingerprint = content_id("tail-weight", fingerprint, str(config.loss.tail_weight))
    how = (training.matmul_precision, computing_device(start).type, str(training.packing))
    cache = ReferenceCache(open_cache(context), fingerprint, *how)
    reference = ReferencePass(context.output, fingerprint, pairs.both, cache)
    if not reference.is_finished:

        def model() -> PreTrainedModel:
            return open_reference(other, tokenizer, device, weights) if other else start

        reference.compute(PairScorer(model, training, context.progress), context.progress)
    return reference


def _reference_of_rounds(context: StageContext) -> ModelSource | None:
    """The start of all rounds, in a later round that is held to it."""
    if not context.has("reference"):
        return None
    return ModelSource(path=str(context.input("reference", "model")))


def _optimise(
    config: TrainConfig,
    context: StageContext,
    model: PreTrainedModel,
    pairs: _Pairs,
    reference: ReferencePass,
    observers: Sequence[Observer],
) -> tuple[PreTrainedModel, list[Row]]:
    trained = sharded(model)
    engine = open_engine(trained, config.training, context.progress, pairs.train)
    size = config.training.micro_batch_size or config.training.batch_size
    follower = None
    if config.follow is not None:
        follower = FollowingReference(config.follow, trained, engine, size)
    rows = train(
        TrainingRun(
            trained,
            PreferenceObjective(config.loss, engine),
            reference.attach(pairs.train),
            reference.attach(pairs.held_out),
            config.training,
            context,
            title="train",
            identity={"reference": reference.fingerprint},
            observers=observers,
            follower=follower,
        )
    )
    return collected(trained), rows


def _kept_checkpoints(
    config: TrainConfig,
    context: StageContext,
    start: ModelSource,
    model: PreTrainedModel,
    saver: ModelSaver,
    guard: Guard,
    loss: HeldOutLoss,
    *,
    merged: bool,
) -> KeptCheckpoints:
    """`merged`: the adapter has no base on disk that it would open on; models are written whole."""
    run, whole = tuple(context.inputs.values()), start.weights
    base = (whole.path, whole.commit or whole.revision, model_fingerprint(whole))
    weights = "nf4" if weight_format(model) == "nf4" else None

    def write(plain: PreTrainedModel, folder: Path) -> None:
        saver.save(fold_adapter(copy.deepcopy(plain)) if merged else plain, folder)
        record_base(folder, *base, run, weights)

    def save(model: PreTrainedModel, folder: Path) -> None:
        save_collected(model, write, folder)

    return KeptCheckpoints(
        context.output,
        config.publish,
        config.keep_checkpoints,
        save,
        context.progress,
        guard.is_sound,
        loss,
        guard.is_collapsed,
    )


def _generations(
    config: TrainConfig, context: StageContext, tokenizer: PreTrainedTokenizerBase
) -> list[Generations]:
    """The observer that lets the policy write; none where no prompts are asked for."""
    settings = config.generations
    if not settings.prompts:
        return []
    prompts = fixed_prompts(context.input("ingest", PROMPTS.file_name), settings.prompts)
    renderer = ChatRenderer(tokenizer)
    training, progress = config.training, context.progress
    return [Generations(context.output, prompts, renderer, settings, training, progress)]
