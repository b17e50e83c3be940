"""sft: teaches a model the demonstrations, so that the policy starts in distribution."""

from pathlib import Path

from schemas.stage import Stage, called_later, content_later
from schemas.work import Known, Work
from stages.sft.config import SftConfig
from stages.training.config import continuation_of, steps_of_work


def _files(config: SftConfig) -> list[Path]:
    return config.model.files() if config.model else []


def _work(config: SftConfig, known: Known) -> Work:
    return steps_of_work(config.training, known.get("ingest", {}).get("demonstrations/train"))


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
)
