"""sft: teaches a model the demonstrations, so that the policy starts in distribution."""

from pathlib import Path
from typing import Any

from schemas.stage import Runtime, Stage, called_later, content_later
from schemas.work import Bill, Known, Work
from stages.sft.config import SftConfig
from stages.training.config import continuation_of, steps_of_work
from stages.training.memory.bill import longest_item, training_bill


def _files(config: SftConfig) -> list[Path]:
    return config.model.files() if config.model else []


def _work(config: SftConfig, known: Known) -> Work:
    return steps_of_work(config.training, known.get("ingest", {}).get("demonstrations/train"))


def _start(config: SftConfig) -> Any:
    return config.model or (config.from_scratch and config.from_scratch.shape)


def _memory(config: SftConfig, shape: Any, runtime: Runtime, device: str) -> Bill | None:
    longest = longest_item(config.training, shape, completions=1)
    return training_bill(shape, config.training, longest, device)


STAGE = Stage(
    name="sft",
    summary="train the start policy on demonstrations",
    config=SftConfig,
    inputs=("ingest",),
    run=called_later("stages.sft.run", "run"),
    version=5,
    files=_files,
    work=_work,
    continuation=continuation_of,
    trains=lambda config: True,
    content=content_later("stages.training.monitoring.metrics", "content"),
    model=_start,
    memory=_memory,
)
