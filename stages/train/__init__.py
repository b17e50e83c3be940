"""train: Direct Preference Optimization of a policy against its reference."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from schemas.stage import Runtime, Stage, called_later, content_later
from schemas.work import Bill, Known, Work
from stages.train.config import TrainConfig
from stages.training.config import continuation_of, steps_of_work
from stages.training.memory.bill import longest_item, training_bill


def _files(config: TrainConfig) -> list[Path]:
    return [f for source in (config.model, config.reference) if source for f in source.files()]


def _work(config: TrainConfig, known: Known) -> Work:
    labelled = [counts for name, counts in known.items() if name.partition("@")[0] == "label"]
    found = labelled or [known.get("ingest", {})]
    pairs = [c.get("pairs_train", c.get("pairs", c.get("comparisons/train"))) for c in found]
    known_pairs = [n for n in pairs if n is not None]
    return steps_of_work(config.training, sum(known_pairs) if known_pairs else None)


def _memory(config: TrainConfig, shape: Any, runtime: Runtime, device: str) -> Bill | None:
    longest = longest_item(config.training, shape, completions=2)
    bill = training_bill(shape, config.training, longest, device)
    if config.follow is None:
        return bill
    weights = bill.parts["gradients"]  # of the reference what is trained is kept
    return replace(bill, parts={**bill.parts, "reference": weights})


STAGE = Stage(
    name="train",
    summary="train the policy on preference pairs with DPO",
    config=TrainConfig,
    inputs=("ingest", "sft", "label"),
    run=called_later("stages.train.run", "run"),
    version=6,
    files=_files,
    work=_work,
    trains=lambda config: True,
    continuation=continuation_of,
    content=content_later("stages.training.monitoring.metrics", "content"),
    model=lambda config: config.model,
    memory=_memory,
)
