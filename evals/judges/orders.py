"""Judging in both orders, into the VERDICTS table and back."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from evals.judges.interface import Judge, StreamingJudge
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
    verdicts = judge.judge([_shown(comparison, order) for comparison in comparisons])
    return [_row(judge, c, order, v) for c, v in zip(comparisons, verdicts, strict=True)]


Rows = list[dict[str, Any]]


def judged_in_both_orders(judge: Judge, comparisons: Iterable[Comparison]) -> Iterator[Rows]:
    """The two rows of VERDICTS of each comparison, once both orders are judged."""
    if isinstance(judge, StreamingJudge):
        yield from _streamed(judge, comparisons)
        return
    source = iter(comparisons)
    while batch := list(islice(source, SHARD_COMPARISONS)):
        # Both orders at once: what they have in common may then be read once.
        shown = [_shown(c, order) for order in BOTH_ORDERS for c in batch]
        with scaled(1 / len(BOTH_ORDERS)):
            found = judge.judge(shown)
        first, second = found[: len(batch)], found[len(batch) :]
        for comparison, *verdicts in zip(batch, first, second, strict=True):
            yield _both_rows(judge, comparison, verdicts)


def _streamed(judge: StreamingJudge, comparisons: Iterable[Comparison]) -> Iterator[Rows]:
    waiting: dict[int, tuple[Comparison, dict[Order, Verdict]]] = {}

    def shown() -> Iterator[Comparison]:
        for number, comparison in enumerate(comparisons):
            waiting[number] = (comparison, {})
            yield from (_shown(comparison, order) for order in BOTH_ORDERS)

    for number, verdict in judge.stream(shown()):
        beat(1 / len(BOTH_ORDERS))
        place, which = divmod(number, len(BOTH_ORDERS))
        comparison, found = waiting[place]
        found[BOTH_ORDERS[which]] = verdict
        if len(found) == len(BOTH_ORDERS):
            del waiting[place]
            yield _both_rows(judge, comparison, [found[order] for order in BOTH_ORDERS])


def _both_rows(judge: Judge, comparison: Comparison, verdicts: Sequence[Verdict]) -> Rows:
    pairs = zip(BOTH_ORDERS, verdicts, strict=True)
    return [_row(judge, comparison, order, verdict) for order, verdict in pairs]


def _shown(comparison: Comparison, order: Order) -> Comparison:
    return comparison.swap() if order is Order.BA else comparison


def _swap(verdict: Verdict) -> Verdict:
    return verdict if isinstance(verdict, Unscored) else verdict.swap()


def _row(judge: Judge, comparison: Comparison, order: Order, shown: Verdict) -> dict[str, Any]:
    verdict = _swap(shown) if order is Order.BA else shown
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
    }
    if isinstance(verdict, Unscored):
        return row | {"unscored_reason": verdict.reason, "unscored_detail": verdict.detail}
    return row | asdict(verdict) | {"verdict": verdict.preference.value}


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
