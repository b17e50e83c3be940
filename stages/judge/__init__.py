"""judge: makes a judge, training it where it is a model, and measures it on held-out labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.judges import judge_model_files
from schemas.stage import Stage, called_later, content_later
from schemas.work import Known, Work, at_most
from stages.judge.config import JudgeConfig


def _files(config: JudgeConfig) -> Sequence[Path]:
    return judge_model_files(config.judge)


def _work(config: JudgeConfig, known: Known) -> Work:
    found = known.get("ingest", {})
    held_out = [found.get(f"comparisons/{split}") for split in ("dev", "test")]
    taken = [at_most(count, config.max_card_comparisons) for count in held_out]
    known_ = [count for count in taken if count is not None]
    return Work("verdicts", 2 * sum(known_) if len(known_) == len(taken) else None)


def _training(config: JudgeConfig) -> Mapping[str, Any] | None:
    """What a trained judge is made of: other settings only measure it anew."""
    if config.training is None:
        return None
    measuring = {"min_label_mass", "engine", "dtype"}
    judge = config.judge.model_dump(mode="json", exclude=measuring)
    return {"judge": judge, "training": config.training.model_dump(mode="json")}


STAGE = Stage(
    name="judge",
    summary="make a judge of two completions, trained where it is a model, and measure it",
    config=JudgeConfig,
    inputs=("ingest", "sft"),
    run=called_later("stages.judge.run", "run"),
    version=5,
    files=_files,
    work=_work,
    trains=lambda config: config.training is not None,
    continuation=_training,
    continues_from="model",
    content=content_later("stages.training.monitoring.metrics", "content"),
)
