"""judge: makes a judge, training it where it is a model, and measures it on held-out labels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.judges import judge_model_files
from evals.judges.kinds.reward_model import RewardModelJudge
from evals.judges.orders import is_pointwise_judge
from evals.judges.scoring.config import LabelScoring
from evals.memory.inference import scoring_bill
from schemas.stage import Runtime, Stage, called_later, content_later
from schemas.work import Bill, Known, Work, at_most
from stages.judge.config import JudgeConfig
from stages.training.memory.bill import Item, longest_item, training_bill


def _files(config: JudgeConfig) -> Sequence[Path]:
    return judge_model_files(config.judge)


def _work(config: JudgeConfig, known: Known) -> Work:
    found = known.get("ingest", {})
    held_out = [found.get(f"comparisons/{split}") for split in ("dev", "test")]
    taken = [at_most(count, config.max_card_comparisons) for count in held_out]
    known_ = [count for count in taken if count is not None]
    comparisons = sum(known_) if len(known_) == len(taken) else None
    # Two orders of a comparison, or two completions that are rated.
    questions = None if comparisons is None else 2 * comparisons
    if is_pointwise_judge(config.judge):
        return Work("ratings", questions, counts={"pointwise": 1})
    return Work("verdicts", questions)


def _training(config: JudgeConfig) -> Mapping[str, Any] | None:
    """What a trained judge is made of: other settings only measure it anew."""
    if config.training is None:
        return None
    measuring = {"min_label_mass", "engine", "dtype"}
    judge = config.judge.model_dump(mode="json", exclude=measuring)
    made = {"judge": judge, "training": config.training.model_dump(mode="json")}
    if config.judge.kind == "reward_model":
        made["rewards"] = config.rewards.model_dump(mode="json")
    return made


def _model(config: JudgeConfig) -> Any:
    return getattr(config.judge, "model", None)


def _memory(config: JudgeConfig, shape: Any, runtime: Runtime, device: str) -> Bill | None:
    """The greater of what training and measuring take; None for judges that load no model here."""
    judge = config.judge
    if not isinstance(judge, LabelScoring | RewardModelJudge) or getattr(judge, "server", None):
        return None
    bills, refusal = [], ""
    if judge.engine == "transformers":
        rows, most = runtime.judge_batch_size, judge.max_prompt_tokens
        bills.append(scoring_bill(shape, judge.dtype, rows, most))
    if config.training is not None:
        read = longest_item(config.training, shape, completions=1).tree
        bills.append(training_bill(shape, config.training, Item(read - 1, (1,)), device))
        refusal = bills[-1].refusal
    greater = max(bills, key=lambda bill: bill.total, default=None)
    return replace(greater, refusal=refusal) if greater else None


STAGE = Stage(
    name="judge",
    summary="make a judge of two completions, trained where it is a model, and measure it",
    config=JudgeConfig,
    inputs=("ingest", "sft"),
    run=called_later("stages.judge.run", "run"),
    version=5,
    files=_files,
    work=_work,
    batches=("judge_batch_size",),
    trains=lambda config: config.training is not None,
    continuation=_training,
    continues_from="model",
    content=content_later("stages.training.monitoring.metrics", "content"),
    model=_model,
    memory=_memory,
)
