"""What the page calls things."""

from schemas.results.base import Estimate
from schemas.results.benchmarks import BenchmarkResults, PairedResult, TaskResult
from schemas.results.judge_card import JudgeCard
from stages.report.gather.sources import Json

JUDGE_NAMES = {"judge": "the judge", "truth": "the true rule", "length": "the longer wins"}

OUTCOME_WORDS = {
    "split": "orders disagree",
    "unscored": "unscored",
    "baseline": "baseline wins",
    "tie": "tie",
    "policy": "policy wins",
}

STAGE_WORDS = {
    "ingest": "raw data to tables",
    "sft": "supervised fine-tuning",
    "judge": "the judge, trained and measured",
    "sample": "completions of the training prompts",
    "label": "verdicts to preference pairs",
    "train": "preference training",
    "evaluate": "benchmarks and win rate",
}


def model_words(baseline: str, start: str) -> str:
    """The baseline in words; `start` and `sft` are no paths but roles."""
    if baseline != "start":
        return baseline
    made = "made by this run's supervised fine-tuning" if start == "sft" else start
    return f"the model it began as, {made}"


def card_rows(card: JudgeCard) -> list[Json]:
    """What the card shows: label, numbers, and whether they are points, a rate or a number."""
    return [
        {"label": label, "kind": _kind(path, found), **found.to_json()}
        for path, (label, found) in card.shown().items()
        if found.value is not None
    ]


def measures(found: BenchmarkResults) -> dict[tuple[str, str | None, str | None], Json]:
    """By task, scorer and metric, how a benchmark's numbers are shown: all of one in one precision.

    Accuracies are rates, their differences points; of anything else `beside` has all values there
    are, whose largest says how many decimals all have.
    """
    shown: dict[tuple[str, str | None, str | None], Json] = {}
    rows: list[TaskResult | PairedResult] = [*found.tasks, *found.paired]
    for row in rows:
        rate = (row.metric or "").endswith("accuracy")
        kind = shown.setdefault(
            (row.task, row.scorer, row.metric),
            {"of": "rate" if rate else "number", "less": "points" if rate else "number"}
            | {"beside": []},
        )
        value = row.value if isinstance(row, TaskResult) else row.difference
        kind["beside"] += [value, row.ci_low, row.ci_high]
    return shown


def _kind(path: str, found: Estimate) -> str:
    if path.startswith("lift") or path.endswith("_gap"):
        return "points"
    if path.startswith("floors."):
        return "rate"
    rate = found.ci_low is not None and "kappa" not in path and 0 <= (found.value or 0) <= 1
    return "rate" if rate else "number"
