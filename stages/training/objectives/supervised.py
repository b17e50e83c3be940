"""Supervised training: negative log-likelihood of completion tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from evals.models.chat.read_only import scored
from schemas.stage import StageContext
from stages.training.config import TrainingConfig
from stages.training.data.rows.token_store import Rows, StoredItem, TokenTable, TokenView
from stages.training.distributed.sharding import collected, sharded
from stages.training.engines.choose import Scores, Terms, open_engine
from stages.training.loop import TrainingRun, train
from stages.training.monitoring.metrics import PERFORMANCE
from stages.training.objectives.base import Columns, TreeObjective, with_router_term


@dataclass(frozen=True)
class TokenExample:
    """One example in tokens. `key` is a unique id; only `completion_ids` are trained."""

    key: str
    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]

    @property
    def branches(self) -> tuple[Sequence[int]]:
        """The one completion."""
        return (self.completion_ids,)


@dataclass(frozen=True)
class SupervisedResult:
    """`counts` for the manifest; `metrics` of the last step, held-out ones prefixed `eval_`."""

    counts: Mapping[str, int]
    metrics: Mapping[str, float]


class CompletionLikelihood(TreeObjective[TokenExample]):
    """Mean over a step's completion tokens of -log p(token)."""

    unit = "example"
    counts_correct = True

    def key(self, item: TokenExample) -> str:
        """The example's key."""
        return item.key

    def denominator(self, items: Sequence[TokenExample]) -> float:
        """Completion tokens of the step."""
        return sum(scored(item.completion_ids) for item in items)

    def terms(self, items: Sequence[TokenExample], scores: Scores) -> Terms:
        """Summed NLL per example; when measuring also the tokens that greedy decoding gets."""
        logps = scores.logps.squeeze(1)
        columns = {"tokens": logps.new_tensor([scored(item.completion_ids) for item in items])}
        if scores.correct is not None:
            columns["correct"] = scores.correct.squeeze(1)
        return Terms(-logps, columns)

    def summarise(self, columns: Columns) -> dict[str, float]:
        """`loss` per token; measured: `token_accuracy`, and `exact_match` of whole completions."""
        tokens = columns["tokens"]
        metrics = {"loss": float(columns["loss"].sum() / tokens.sum())}
        if "correct" in columns:
            metrics["token_accuracy"] = float(columns["correct"].sum() / tokens.sum())
            metrics["exact_match"] = float((columns["correct"] == tokens).double().mean())
        return with_router_term(metrics, columns, "nll")


def view_examples(table: TokenTable, rows: Rows) -> TokenView[TokenExample]:
    """Rows of a table of prompts with one completion each as examples."""

    def make(stored: StoredItem) -> TokenExample:
        prompt, completion = stored.parts
        return TokenExample(stored.key, prompt, completion)

    return TokenView(table, rows, make)


def train_supervised(
    model: PreTrainedModel,
    examples: Sequence[TokenExample],
    held_out: Sequence[TokenExample],
    config: TrainingConfig,
    context: StageContext,
    title: str,
) -> SupervisedResult:
    """Train `model` in place; resumes from `context.output / "resume"` where there is one.

    Writes metrics.jsonl and metrics.parquet into `context.output`. The checkpoints stay until the
    caller has published the model and calls `remove_checkpoints(context.output)`
    (stages.training.checkpoints.resume), so that a kill in between costs nothing.
    The model must be on its device (`loading_device(context.runtime)`) and in float32; on several
    ranks only rank 0's holds the trained weights in the end.
    Neither list may hold an example longer than the model takes.

    Raises:
        DataError: no examples.
        BackendError: the loss is not finite; names the step and the examples.
    """
    measured = held_out[: config.max_held_out]
    trained = sharded(model)
    objective = CompletionLikelihood(open_engine(trained, config, context.progress, examples))
    rows = train(TrainingRun(trained, objective, examples, measured, config, context, title=title))
    collected(trained)
    counts = {
        "train": len(examples),
        "held_out": len(measured),
        "steps": int(rows[-1]["step"]),
        "trained_tokens": sum(scored(example.completion_ids) for example in examples),
    }
    return SupervisedResult(counts, {k: v for k, v in rows[-1].items() if k not in PERFORMANCE})
