"""Judging in both orders, and what the two orders say together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evals.judges.interface import Judge
from schemas.labels import (
    BOTH_ORDERS,
    Comparison,
    LabelProbabilities,
    Order,
    Preference,
    Unscored,
    Verdict,
)
from schemas.parquet import ShardedTable
from schemas.stage import Progress

SHARD_COMPARISONS = 256
"""Comparisons that a killed run loses at most."""


def judge_in_order(
    judge: Judge, comparisons: Sequence[Comparison], order: Order
) -> list[dict[str, Any]]:
    """Judge comparisons in one order; rows of VERDICTS.

    Whatever the order shown, the probabilities and the verdict speak of the comparison's own A
    and B.
    """
    swapped = order is Order.BA
    verdicts = judge.judge([c.swap() if swapped else c for c in comparisons])
    return [
        _row(judge, comparison, order, _swap(verdict) if swapped else verdict)
        for comparison, verdict in zip(comparisons, verdicts, strict=True)
    ]


def judge_both_orders(
    judge: Judge,
    comparisons: Sequence[Comparison],
    verdicts: ShardedTable,
    progress: Progress,
    title: str,
) -> None:
    """Judge what `verdicts` does not hold yet, in both orders, one finished shard after another.

    Shards hold the same comparisons whether or not the work was interrupted, so the table that
    `verdicts` merges to is the same to the last bit. The comparisons' ids must be unique.
    """
    done = verdicts.done("comparison_id", "judge")
    todo = [c for c in comparisons if (c.comparison_id, judge.name) not in done]
    with progress.task(title, len(comparisons), "comparisons") as task:
        task.advance(len(comparisons) - len(todo))
        for shard in _shards(todo):
            verdicts.append(
                row for order in BOTH_ORDERS for row in judge_in_order(judge, shard, order)
            )
            task.advance(len(shard))


def _shards(comparisons: Sequence[Comparison]) -> Iterator[Sequence[Comparison]]:
    for start in range(0, len(comparisons), SHARD_COMPARISONS):
        yield comparisons[start : start + SHARD_COMPARISONS]


def _swap(verdict: Verdict) -> Verdict:
    return verdict if isinstance(verdict, Unscored) else verdict.swap()


def _row(judge: Judge, comparison: Comparison, order: Order, verdict: Verdict) -> dict[str, Any]:
    row: dict[str, Any] = {
        "comparison_id": comparison.comparison_id,
        "prompt_id": comparison.prompt_id,
        "judge": judge.name,
        "judge_fingerprint": judge.fingerprint,
        "order": order.value,
        **dict.fromkeys(("p_a", "p_b", "p_tie", "label_mass", "verdict")),
        "unscored_reason": None,
        "unscored_detail": None,
        "raw": "",
        "prompt_tokens": None,
        "completion_tokens": None,
    }
    if isinstance(verdict, Unscored):
        return row | {"unscored_reason": verdict.reason, "unscored_detail": verdict.detail}
    return row | asdict(verdict) | {"verdict": verdict.preference.value}


def verdict_of(row: Mapping[str, Any]) -> Verdict:
    """The verdict that a row of VERDICTS holds, about the comparison's own A and B."""
    if row["verdict"] is None:
        return Unscored(row["unscored_reason"], row["unscored_detail"] or "")
    return LabelProbabilities(
        p_a=row["p_a"], p_b=row["p_b"], p_tie=row["p_tie"], label_mass=row["label_mass"]
    )


def mean_of(verdicts: Sequence[LabelProbabilities]) -> LabelProbabilities:
    """Mean of the orders' probabilities; the soft score of DESIGN section 6."""
    n = len(verdicts)
    return LabelProbabilities(
        p_a=sum(v.p_a for v in verdicts) / n,
        p_b=sum(v.p_b for v in verdicts) / n,
        p_tie=sum(v.p_tie for v in verdicts) / n,
    )


@dataclass(frozen=True)
class Resolution:
    """What two orders say together.

    `label` is A or B where they agree clearly enough, Tie where their mean is a tie, None where
    they say nothing usable. `reason` is None for A and B, and says why otherwise: `tie`,
    `inconsistent`, `low_margin`, `unscored_<reason>`. `margin` is |p_a - p_b| of the mean, None
    where an order is unscored.
    """

    label: Preference | None
    margin: float | None = None
    reason: str | None = None

    @property
    def usable(self) -> bool:
        """Whether a preference pair may be made of it."""
        return self.reason is None


def resolve(ab: Verdict, ba: Verdict, min_margin: float = 0.0) -> Resolution:
    """Join the verdicts of both orders, each already about the comparison's own A and B.

    A side wins where it is ahead in both orders and its mean lead is at least `min_margin`. A
    judge that follows the position alone is `inconsistent`, not a tie. Exchanging A and B in both
    verdicts exchanges the label and changes nothing else.
    """
    failures = sorted(v.reason for v in (ab, ba) if isinstance(v, Unscored))
    if isinstance(ab, Unscored) or isinstance(ba, Unscored):
        return Resolution(None, reason=f"unscored_{failures[0]}")
    mean = mean_of([ab, ba])
    leads = (ab.p_a - ab.p_b, ba.p_a - ba.p_b)
    margin = min(1.0, abs(mean.p_a - mean.p_b))
    if min(leads) < 0 < max(leads):
        return Resolution(None, margin, "inconsistent")
    if mean.preference is Preference.TIE:
        return Resolution(Preference.TIE, margin, "tie")
    if 0 in leads:
        return Resolution(None, margin, "inconsistent")
    if margin < min_margin:
        return Resolution(None, margin, "low_margin")
    return Resolution(mean.preference, margin)
