"""How items go through a model: packed with shared prompts and a fused head, or padded.

Both give the same numbers. The packed engine is the fast one; the padded one is plain torch and
takes any causal language model. Which one it is, is decided here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel

from evals.memory.shape import NoShape, shape_of
from evals.models.logps import switching_length
from schemas.errors import ConfigError
from schemas.stage import Progress
from stages.training.attention.tree import CannotShareError
from stages.training.config import TrainingConfig
from stages.training.distributed.sharding import forget_failed_pass
from stages.training.distributed.world import computing_device
from stages.training.engines.gradient_checkpointing import (
    is_recomputable,
    layers_to_rerun,
    refuse_if_not_recomputable,
)
from stages.training.engines.packed import PackedEngine, head_of
from stages.training.engines.padded import PaddedEngine
from stages.training.engines.scoring import Engine, Scores, Terms, TermsOf, TreeItem
from stages.training.memory.budget import PassBudget
from stages.training.memory.sizes import pack_budget

__all__ = [
    "Engine",
    "PackedEngine",
    "PaddedEngine",
    "Scores",
    "Terms",
    "TermsOf",
    "TreeItem",
    "open_engine",
    "why_not_packed",
]

# How far the two engines may differ on the probe, in nats: far above rounding in float32.
_TOLERANCE = 1e-3
# And where weights are in bfloat16, which rounds to three digits.
_LOW_TOLERANCE = 0.1


def open_engine(
    model: PreTrainedModel,
    config: TrainingConfig,
    progress: Progress,
    items: Sequence[TreeItem] = (),
) -> Engine:
    """The packed engine where the model can take it; else the padded one, and says why.

    `items`: what it will be trained on.

    Raises:
        ConfigError: gradient checkpointing is asked for, and the model cannot do it; or an item
            cannot be made to fit `max_activation_gb`.
    """
    if config.gradient_checkpointing:
        refuse_if_not_recomputable(model)
    reason = why_not_packed(model) if config.packing else ""
    if reason:
        progress.note(f"{type(model).__name__} is trained padded, not packed: {reason}")
    limit = _limit(model, config, packing=reason is None)
    engine = _engine(config, computing_device(model).type, limit, packing=reason is None)
    if limit is not None:
        limit.refuse_what_does_not_fit(engine.passes_alone(items))
    return engine


def _engine(
    config: TrainingConfig, device: str, limit: PassBudget | None, *, packing: bool
) -> Engine:
    recompute = config.gradient_checkpointing
    if not packing:
        return PaddedEngine(config.dtype, recompute=recompute, limit=limit)
    budget = pack_budget(config, device) if limit is None else limit.most_tokens()
    return PackedEngine(config.dtype, budget, recompute=recompute, limit=limit)


def _limit(model: PreTrainedModel, config: TrainingConfig, *, packing: bool) -> PassBudget | None:
    """What a pass may take; None where nothing is said of that."""
    if config.max_activation_gb is None:
        return None
    shape = shape_of(model.config.to_dict())
    if isinstance(shape, NoShape):
        raise ConfigError(
            f"training.max_activation_gb: what a pass takes is not known: {shape.reason}; leave it "
            "out, and lower micro_batch_size or set gradient_checkpointing"
        )
    return PassBudget(
        replace(shape, packs=packing),
        config,
        computing_device(model).type,
        partly=bool(layers_to_rerun(model)),
        recomputable=is_recomputable(model),
    )


def why_not_packed(model: PreTrainedModel) -> str | None:
    """What stands against packing this model, from its settings and from a probe; else None.

    The probe is two small trees that both engines score: a model whose attention, positions or
    logits are special in a way that nobody thought of gives other numbers.
    """
    if type(head_of(model)) is not torch.nn.Linear:
        return "its LM head is not a plain linear layer"
    for name in ("final_logit_softcapping", "attn_logit_softcapping", "attention_chunk_size"):
        if getattr(model.config.get_text_config(), name, None):
            return f"its config sets {name}"
    if switching_length(model) is not None:
        return (
            "its positions depend on the longest row of a pass, so that short and long rows go "
            "through it apart"
        )
    probe = [_Probe((1, 2, 3, 4), ((5, 6), (7, 8, 9))), _Probe((2,), ((3,), (1, 4)))]
    try:
        packed = PackedEngine().measure(model, probe, _sums)["loss"]
    except (CannotShareError, TypeError, ValueError, KeyError, AttributeError) as error:
        forget_failed_pass(model)
        return f"the attempt failed ({type(error).__name__}: {error})"
    difference = float((packed - PaddedEngine().measure(model, probe, _sums)["loss"]).abs().max())
    if difference < (_TOLERANCE if model.dtype == torch.float32 else _LOW_TOLERANCE):
        return None
    return f"its log-probabilities would differ by {difference:.2g} nats"


@dataclass(frozen=True)
class _Probe:
    prompt_ids: Sequence[int]
    branches: Sequence[Sequence[int]]


def _sums(items: Sequence[_Probe], scores: Scores) -> Terms:
    return Terms(scores.logps.sum(dim=1), {})
