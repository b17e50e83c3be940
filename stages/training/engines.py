"""How items go through a model: packed with shared prompts and a fused head, or padded.

Both give the same numbers. The packed engine is the fast one; the padded one is plain torch and
takes any causal language model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from evals.models.checkpoints import Dtype
from evals.models.logps import completion_scores
from evals.models.rendering import RenderedCompletion
from schemas.stage import Progress
from stages.training.config import TrainingConfig
from stages.training.fused_head import FusedHead, Logits, Workspace
from stages.training.packing import Pack, Tile, Tree, first_fit_decreasing, tree_size
from stages.training.precision import autocast
from stages.training.recomputation import recomputed, refuse_if_not_recomputable
from stages.training.row_gradients import row_gradients
from stages.training.tree_attention import CannotShareError, shared_prompts

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

TreeItem = TypeVar("TreeItem", bound=Tree)

# How far the two engines may differ on the probe, in nats: far above rounding in float32.
_TOLERANCE = 1e-3

# Tokens of a packed forward pass where the recipe does not say: more are hardly faster.
_BUDGETS = {"cpu": 1024, "cuda": 4096}


@dataclass(frozen=True)
class Scores:
    """Of n items with b branches each.

    `logps`: float64 (n, b), sum over completion tokens of log p(token | what precedes it), nats.
    `correct`: int64 (n, b), completion tokens that are the model's first choice; None if not asked.
    """

    logps: "Tensor"
    correct: "Tensor | None" = None


@dataclass(frozen=True)
class Terms:
    """Of n items: the loss (n,), differentiable by the scores, and columns (n,) to report."""

    loss: "Tensor"
    columns: "dict[str, Tensor]"


TermsOf = Callable[[Sequence[TreeItem], Scores], Terms]


class Engine(Protocol):
    """Runs items through a model, in number format `dtype`."""

    dtype: Dtype

    def micro_batches(self, items: Sequence[TreeItem], size: int) -> list[list[TreeItem]]:
        """Groups of at most `size` items that go through the model together."""

    def measure(
        self,
        model: "PreTrainedModel",
        items: Sequence[TreeItem],
        terms: TermsOf[TreeItem],
        *,
        count_correct: bool = False,
    ) -> "dict[str, Tensor]":
        """Loss and columns (n,) in the order of `items`, without gradients."""

    def accumulate(
        self,
        model: "PreTrainedModel",
        items: Sequence[TreeItem],
        terms: TermsOf[TreeItem],
        scale: float,
    ) -> "dict[str, Tensor]":
        """The same, and adds the gradient of scale * (sum of losses) to the parameters."""


class PaddedEngine:
    """Every completion behind its own copy of the prompt, padded to the longest; autograd."""

    def __init__(self, dtype: Dtype = "float32", *, recompute: bool = False) -> None:
        """`recompute`: gradient checkpointing."""
        self.dtype = dtype
        self._recompute = recompute

    def micro_batches(self, items: Sequence[TreeItem], size: int) -> list[list[TreeItem]]:
        """Items of similar length, longest first."""
        ordered = sorted(items, key=tree_size, reverse=True)
        return [ordered[i : i + size] for i in range(0, len(ordered), size)]

    def measure(
        self,
        model: "PreTrainedModel",
        items: Sequence[TreeItem],
        terms: TermsOf[TreeItem],
        *,
        count_correct: bool = False,
    ) -> "dict[str, Tensor]":
        """See `Engine`."""
        import torch

        with torch.no_grad():
            return _columns([terms(items, self._scores(model, items, count_correct))])

    def accumulate(
        self,
        model: "PreTrainedModel",
        items: Sequence[TreeItem],
        terms: TermsOf[TreeItem],
        scale: float,
    ) -> "dict[str, Tensor]":
        """See `Engine`."""
        with recomputed(model, self._recompute):
            scores = self._scores(model, items, count_correct=False)
        result = terms(items, scores)
        (result.loss.sum() * scale).backward()  # type: ignore[no-untyped-call]
        return _columns([result])

    def _scores(
        self, model: "PreTrainedModel", items: Sequence[Tree], count_correct: bool
    ) -> Scores:
        sequences = [
            RenderedCompletion(list(item.prompt_ids), list(ids))
            for item in items
            for ids in item.branches
        ]
        with autocast(self.dtype, model.device):
            scores = completion_scores(model, sequences, count_correct=count_correct)
        shape = (len(items), -1)
        correct = None if scores.correct is None else scores.correct.view(shape)
        return Scores(scores.logps.view(shape), correct)


class PackedEngine:
    """Trees packed without padding under a token budget; the LM head fused with the loss."""

    def __init__(
        self,
        dtype: Dtype = "float32",
        tokens_per_micro_batch: int = 1024,
        *,
        recompute: bool = False,
    ) -> None:
        """`recompute`: gradient checkpointing."""
        self.dtype = dtype
        self._budget = tokens_per_micro_batch
        self._recompute = recompute
        self._workspace = Workspace()

    def micro_batches(self, items: Sequence[TreeItem], size: int) -> list[list[TreeItem]]:
        """First-fit-decreasing bins: at most `size` items, and tokens within the budget."""
        bins = first_fit_decreasing([tree_size(item) for item in items], self._budget, size)
        return [[items[i] for i in indices] for indices in bins]

    def measure(
        self,
        model: "PreTrainedModel",
        items: Sequence[TreeItem],
        terms: TermsOf[TreeItem],
        *,
        count_correct: bool = False,
    ) -> "dict[str, Tensor]":
        """See `Engine`."""
        import torch

        results = []
        with torch.no_grad():
            pack = Pack.of(items, model.device)
            hidden = self._states_before_head(model, pack)
            head = FusedHead(_head(model), self.dtype, self._workspace)
            for tile in pack.tiles(head.tile_tokens):
                logits = head.logits(hidden[tile.predictors], tile.targets)
                scores = _tile_scores(tile, logits, count_correct)
                results.append(terms(_items(items, tile), scores))
        return _columns(results)

    def accumulate(
        self,
        model: "PreTrainedModel",
        items: Sequence[TreeItem],
        terms: TermsOf[TreeItem],
        scale: float,
    ) -> "dict[str, Tensor]":
        """See `Engine`."""
        import torch

        pack = Pack.of(items, model.device)
        results = []
        with shared_prompts(model), row_gradients(model):
            with recomputed(model, self._recompute):
                hidden = self._states_before_head(model, pack)
            states, gradient = hidden.detach(), torch.zeros_like(hidden)
            head = FusedHead(_head(model), self.dtype, self._workspace)
            for tile in pack.tiles(head.tile_tokens):
                read = states[tile.predictors]
                with torch.no_grad():
                    logits = head.logits(read, tile.targets)
                    scores = _tile_scores(tile, logits, count_correct=False)
                scores.logps.requires_grad_()
                results.append(terms(_items(items, tile), scores))
                loss = results[-1].loss.sum() * scale
                (slopes,) = torch.autograd.grad(loss, scores.logps)
                with torch.no_grad():
                    slopes = slopes.flatten()[tile.branches]
                    back = head.backward(read, logits, tile.targets, slopes)
                gradient.index_add_(0, tile.predictors, back)
            hidden.backward(gradient)  # type: ignore[no-untyped-call]
        return _columns(results)

    def _states_before_head(self, model: Any, pack: Pack) -> "Tensor":
        """What the LM head would read at every token of the pack: (tokens, hidden)."""
        seen: list[Tensor] = []

        def look(_module: Any, inputs: "tuple[Tensor, ...]") -> "tuple[Tensor, ...]":
            seen.append(inputs[0][0])
            return (inputs[0][:, :1].detach(), *inputs[1:])

        hook = _head(model).register_forward_pre_hook(look)
        try:
            with shared_prompts(model), autocast(self.dtype, model.device):
                model(
                    input_ids=pack.input_ids,
                    position_ids=pack.position_ids,
                    use_cache=False,
                    tree=pack.attention,
                )
        finally:
            hook.remove()
        return seen[0]


def open_engine(model: "PreTrainedModel", config: TrainingConfig, progress: Progress) -> Engine:
    """The packed engine where the model can take it; else the padded one, and says why.

    Raises:
        ConfigError: gradient checkpointing is asked for, and the model cannot do it.
    """
    if config.gradient_checkpointing:
        refuse_if_not_recomputable(model)
    padded = PaddedEngine(config.dtype, recompute=config.gradient_checkpointing)
    if not config.packing:
        return padded
    reason = why_not_packed(model)
    if reason is None:
        budget = config.tokens_per_micro_batch or _BUDGETS.get(model.device.type, 1024)
        return PackedEngine(config.dtype, budget, recompute=config.gradient_checkpointing)
    progress.note(f"{type(model).__name__} is trained padded, not packed: {reason}")
    return padded


def why_not_packed(model: "PreTrainedModel") -> str | None:
    """What stands against packing this model, from its settings and from a probe; else None.

    The probe is two small trees that both engines score: a model whose attention, positions or
    logits are special in a way that nobody thought of gives other numbers.
    """
    import torch

    if type(_head(model)) is not torch.nn.Linear:
        return "its LM head is not a plain linear layer"
    for name in ("final_logit_softcapping", "attn_logit_softcapping", "attention_chunk_size"):
        if getattr(model.config.get_text_config(), name, None):
            return f"its config sets {name}"
    probe = [_Probe((1, 2, 3, 4), ((5, 6), (7, 8, 9))), _Probe((2,), ((3,), (1, 4)))]
    try:
        packed = PackedEngine().measure(model, probe, _sums)["loss"]
    except (CannotShareError, TypeError, ValueError, KeyError, AttributeError) as error:
        return f"the attempt failed ({type(error).__name__}: {error})"
    difference = float((packed - PaddedEngine().measure(model, probe, _sums)["loss"]).abs().max())
    if difference < _TOLERANCE:
        return None
    return f"its log-probabilities would differ by {difference:.2g} nats"


@dataclass(frozen=True)
class _Probe:
    prompt_ids: Sequence[int]
    branches: Sequence[Sequence[int]]


def _sums(items: Sequence[_Probe], scores: Scores) -> Terms:
    return Terms(scores.logps.sum(dim=1), {})


def _items(items: Sequence[TreeItem], tile: Tile) -> Sequence[TreeItem]:
    return items[tile.trees.start : tile.trees.stop]


def _tile_scores(tile: Tile, logits: Logits, count_correct: bool) -> Scores:
    import torch

    def by_branch(values: "Tensor") -> "Tensor":
        sums = values.new_zeros(tile.num_branches).index_add_(0, tile.branches, values)
        return sums.view(len(tile.trees), -1)

    logps = by_branch(logits.target_logps.double())
    if not count_correct:
        return Scores(logps)
    return Scores(logps, by_branch((logits.table.argmax(dim=-1) == tile.targets).to(torch.int64)))


def _columns(results: Sequence[Terms]) -> "dict[str, Tensor]":
    import torch

    parts = [{"loss": result.loss.detach(), **result.columns} for result in results]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _head(model: "PreTrainedModel") -> Any:
    return model.get_output_embeddings()
