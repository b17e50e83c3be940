"""Judging in both orders, into the VERDICTS table and back."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from evals.judges.interface import Judge, StreamingJudge
from evals.judges.ratings.charging import charged_once
from evals.pulse import beat, scaled
from schemas.labels import (
    BOTH_ORDERS,
    Comparison,
    LabelProbabilities,
    Order,
    Unscored,
    Verdict,
)

SHARD_COMPARISONS = 256
"""Comparisons that a judge in this process is given at once."""

FAILED_CALLS = frozenset(
    {
        "connection",
        "not_json",
        "not_there",
        "not_unpacked",
        "rate_limited",
        "server_error",
        "timeout",
        "unreachable",
        "wrong_content_type",
    }
)
"""Reasons for no verdict that lie with a server, which may answer another time."""


def judge_in_order(
    judge: Judge, comparisons: Sequence[Comparison], order: Order
) -> list[dict[str, Any]]:
    """Judge comparisons in one order; rows of VERDICTS.

    Whatever the order shown, the probabilities and the verdict speak of the comparison's own A
    and B.
    """
    shown = Order.AB if is_pointwise_judge(judge) else order
    verdicts = judge.judge([_shown(comparison, shown) for comparison in comparisons])
    return [
        _row(judge, c, order, _about_own(v, shown))
        for c, v in zip(comparisons, verdicts, strict=True)
    ]


Rows = list[dict[str, Any]]


def is_pointwise_judge(judge: object) -> bool:
    """Whether a judge rates each completion by itself, so that there is no order to show."""
    return bool(getattr(judge, "pointwise", False))


def orders_asked(judge: object) -> tuple[Order, ...]:
    """The orders in which a comparison is shown; from ratings both follow."""
    return (Order.AB,) if is_pointwise_judge(judge) else BOTH_ORDERS


def judged_in_both_orders(judge: Judge, comparisons: Iterable[Comparison]) -> Iterator[Rows]:
    """The two rows of VERDICTS of each comparison, once both orders are judged."""
    if isinstance(judge, StreamingJudge):
        yield from _streamed(judge, comparisons)
        return
    source = iter(comparisons)
    while batch := list(islice(source, SHARD_COMPARISONS)):
        # Both orders at once: what they have in common may then be read once.
        orders = orders_asked(judge)
        shown = [_shown(c, order) for order in orders for c in batch]
        with scaled(1 / len(orders)):
            found = judge.judge(shown)
        by_order = [found[at : at + len(batch)] for at in range(0, len(found), len(batch))]
        for comparison, *verdicts in zip(batch, *by_order, strict=True):
            yield _both_rows(judge, comparison, verdicts)


def _streamed(judge: StreamingJudge, comparisons: Iterable[Comparison]) -> Iterator[Rows]:
    waiting: dict[int, tuple[Comparison, dict[Order, Verdict]]] = {}
    orders = orders_asked(judge)

    def shown() -> Iterator[Comparison]:
        for number, comparison in enumerate(comparisons):
            waiting[number] = (comparison, {})
            yield from (_shown(comparison, order) for order in orders)

    for number, verdict in judge.stream(shown()):
        beat(1 / len(orders))
        place, which = divmod(number, len(orders))
        comparison, found = waiting[place]
        found[orders[which]] = verdict
        if len(found) == len(orders):
            del waiting[place]
            yield _both_rows(judge, comparison, [found[order] for order in orders])


def _both_rows(judge: Judge, comparison: Comparison, verdicts: Sequence[Verdict]) -> Rows:
    """`verdicts` are in the orders that were shown: both, or the one from which both follow."""
    shown = verdicts if len(verdicts) == len(BOTH_ORDERS) else [*verdicts, verdicts[0].swap()]
    pairs = zip(BOTH_ORDERS, shown, strict=True)
    rows = [_row(judge, comparison, order, _about_own(v, order)) for order, v in pairs]
    return charged_once(rows)


def _shown(comparison: Comparison, order: Order) -> Comparison:
    return comparison.swap() if order is Order.BA else comparison


def _about_own(verdict: Verdict, shown: Order) -> Verdict:
    """What was said in an order, about the comparison's own A and B."""
    return verdict.swap() if shown is Order.BA else verdict


def _row(judge: Judge, comparison: Comparison, order: Order, verdict: Verdict) -> dict[str, Any]:
    referenced: Callable[[Comparison], bool] | None = getattr(judge, "with_reference", None)
    row: dict[str, Any] = {
        "comparison_id": comparison.comparison_id,
        "prompt_id": comparison.prompt_id,
        "judge": judge.name,
        "judge_fingerprint": judge.fingerprint,
        "order": order.value,
        **dict.fromkeys(("p_a", "p_b", "p_tie", "label_mass", "verdict")),
        "unscored_reason": None,
        "unscored_detail": None,
        "raw": verdict.raw,
        "prompt_tokens": verdict.prompt_tokens,
        "completion_tokens": verdict.completion_tokens,
        "criteria": None,
        "rating_a": verdict.rating_a,
        "rating_b": verdict.rating_b,
        "rated": None if verdict.rated is None else [asdict(one) for one in verdict.rated],
        "with_reference": referenced(comparison) if referenced else None,
    }
    if isinstance(verdict, Unscored):
        return row | {"unscored_reason": verdict.reason, "unscored_detail": verdict.detail}
    return row | {
        **{name: getattr(verdict, name) for name in ("p_a", "p_b", "p_tie", "label_mass")},
        "verdict": verdict.preference.value,
        "criteria": [asdict(one) for one in verdict.criteria] or None,
    }


def is_failed_call(row: Mapping[str, Any]) -> bool:
    """Whether a row of VERDICTS has no verdict for a reason that may pass; also of a panel."""
    reasons = {row["unscored_reason"]}
    if row["unscored_reason"] == "panel_quorum":
        reasons = {member.get("unscored") for member in json.loads(row["raw"])}
    return not reasons.isdisjoint(FAILED_CALLS)


def verdict_of(row: Mapping[str, Any]) -> Verdict:
    """The verdict that a row of VERDICTS holds, about the comparison's own A and B."""
    if row["verdict"] is None:
        return Unscored(row["unscored_reason"], row["unscored_detail"] or "")
    return LabelProbabilities(
        p_a=row["p_a"], p_b=row["p_b"], p_tie=row["p_tie"], label_mass=row["label_mass"]
    )
