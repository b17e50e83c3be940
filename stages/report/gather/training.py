"""What training did: curves, first, last and best values, and the signs of a collapse."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from evals.statistics.noise import noise_words
from schemas.results.report import (
    GuardReport,
    MetricExtremes,
    PairDistance,
    ShownCheckpoint,
    ShownCheckpoints,
    TrainingCurves,
)
from schemas.results.training import CheckpointRecord, SampledTokens, TrainingSummary
from schemas.stage import StageContext
from stages.report.config import SWEEP
from stages.report.gather.sources import Json, Rows, Sources
from stages.report.page.text import is_number

Point = tuple[int, float]

MAX_POINTS = 240
_LOGPS = ("chosen_logps", "rejected_logps", "chosen_tokens", "rejected_tokens")
HELD_OUT = "eval_"
_LOWER_IS_BETTER = {"loss", "nll_loss"}
_HIGHER_IS_BETTER = {"rewards/margins", "rewards/accuracies"}


def training(sources: Sources, stage: str) -> TrainingCurves | None:
    """Curves and extremes of every metric of a training stage; None where it wrote no metrics."""
    rows = sources.metrics(stage)
    if not rows:
        return None
    names = sorted({name for row in rows for name in row} - {"step"})
    curves = {name: points for name in names if (points := _points(rows, name))}
    return TrainingCurves(
        steps=max(row.get("step") or 0 for row in rows),
        metrics={name: _extremes(name, points) for name, points in curves.items()},
        curves={name: thin(points) for name, points in curves.items()},
    )


def _points(rows: Rows, name: str) -> list[Point]:
    return [(row.get("step") or 0, row[name]) for row in rows if is_number(row.get(name))]


def thin(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """At most `limit` of the points, evenly spread, first and last among them."""
    if len(points) <= limit:
        return list(points)
    last = len(points) - 1
    return [points[round(i * last / (limit - 1))] for i in range(limit)]


def _extremes(name: str, points: Sequence[Point]) -> MetricExtremes:
    plain = name.removeprefix(HELD_OUT)
    best: tuple[int | None, float | None] = (None, None)
    if plain in _LOWER_IS_BETTER:
        best = min(points, key=lambda point: float(point[1]))
    elif plain in _HIGHER_IS_BETTER:
        best = max(points, key=lambda point: float(point[1]))
    return MetricExtremes(first=points[0][1], last=points[-1][1], best=best[1], best_step=best[0])


def guard(sources: Sources) -> GuardReport | None:
    """Whether the policy came to find the chosen answers less likely than the reference does.

    The value is the last chosen reward, beta (log p - log p of the reference): its sign tells.
    """
    summary = sources.result("train", "summary.json", TrainingSummary) or TrainingSummary()
    rows = sources.metrics("train")
    for name in ("eval_rewards/chosen", "rewards/chosen"):
        points = _points(rows, name)
        if points:
            return GuardReport(
                metric=name,
                value=points[-1][1],
                fell_at_step=summary.chosen_fell_at_step,
                findings=summary.guard,
            )
    return None


def checkpoints(sources: Sources) -> ShownCheckpoints | None:
    """Which step was published and why, and how it and the other kept ones measured.

    `measure` and the values are None where the last step was asked for; all is None where nothing
    is recorded.
    """
    record = sources.result("train", "checkpoints.json", CheckpointRecord)
    if record is None:
        return None
    measure = record.publish.get("measure")
    return ShownCheckpoints(
        published_step=record.published_step,
        final_step=record.final_step,
        why=record.why,
        measure=measure,
        kept=[
            ShownCheckpoint(step=c.step, value=c.measures.get(str(measure)), path=c.path)
            for c in record.checkpoints
        ],
    )


def sampled_tokens(sources: Sources) -> SampledTokens | None:
    """How true training is to what was sampled; None where no completion was trained as drawn.

    The share is of completions whose text, rendered again, would have been other tokens.
    """
    summary = sources.result("train", "summary.json", TrainingSummary)
    drawn = summary.counts.get("completions_as_drawn", 0) if summary else 0
    if summary is None or not (drawn or summary.drift):
        return None
    otherwise = summary.counts.get("completions_drawn_otherwise", 0)
    return SampledTokens(
        completions=drawn,
        otherwise=otherwise,
        share_otherwise=otherwise / drawn if drawn else None,
        drift=summary.drift,
    )


def pair_distance(sources: Sources) -> PairDistance | None:
    """How far the pairs are from what the reference policy writes itself.

    None where there are no pairs: KTO's other completions are of other prompts.
    """
    if "train" not in sources.manifests:
        return None
    config = sources.manifests["train"].payload.get("config") or {}
    rows = sources.file_columns("train", "reference_logps.parquet", _LOGPS)
    if (config.get("loss") or {}).get("kind") == "kto" or not rows:
        return None
    own = _per_token_of_samples(sources)
    return PairDistance(
        pairs=len(rows),
        chosen=_mean(row["chosen_logps"] / row["chosen_tokens"] for row in rows),
        rejected=_mean(row["rejected_logps"] / row["rejected_tokens"] for row in rows),
        own=_mean(own) if own else None,
        own_samples=len(own),
    )


def _per_token_of_samples(sources: Sources) -> list[float]:
    """Of what the start of training wrote: sampled for training, else for the comparison."""
    places = (("sample", "completions.parquet"), ("evaluate", "completions_baseline.parquet"))
    for stage, name in places:
        rows = sources.file_columns(stage, name, ("sum_logps", "num_tokens"))
        known = [
            row["sum_logps"] / row["num_tokens"]
            for row in rows
            if row["sum_logps"] is not None and row["num_tokens"]
        ]
        if known:
            return known
    return []


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found)


def noise(context: StageContext, sources: Sources) -> Json | None:
    """What repeated trainings say of a rerun, where this run's training is one of several seeds.

    None where it is of one training run, or of a recipe that was trained otherwise since.
    """
    path = context.beside(SWEEP)
    mine = sources.manifests.get("train")
    if path is None or mine is None:
        return None
    try:
        found = json.loads(path.read_bytes())
        own = context.beside(f"{Path(SWEEP).parent}/{found['chosen']}/train/manifest.json")
        made = json.loads(own.read_bytes())["fingerprint"] if own else None
        said = found["noise"]
    except (ValueError, KeyError, TypeError):  # written by another version
        return None
    if made != mine.fingerprint or not isinstance(said, dict):
        return None
    lines = list(noise_words(said))
    if found.get("split") == "dev":
        lines[0] = f"on dev prompts, {lines[0]}"
    return said | {"statement": lines}
