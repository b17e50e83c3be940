"""A look at a judge before it is let loose: some verdicts on comparisons drawn at random."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from evals.judges.interface import Judge
from schemas.errors import BackendError
from schemas.ids import seed_from
from schemas.labels import BOTH_ORDERS, Comparison

FIRST_VERDICTS = 64
FEWEST_COMPARISONS = 16
"""Of fewer comparisons nothing is drawn: their verdicts are soon there."""

NEARLY_ALL = 0.9
_SHOWN_CHARACTERS = 160

_REMEDIES = {
    "low_label_mass": 'take answer = "reasoned", a prefill that the label follows, a lower '
    "min_label_mass, or another model",
    "no_label_mass": 'take answer = "reasoned", a prefill that the label follows, or another model',
    "no_verdict": "take another model, or a verdict_pattern or verdict_key that reads its replies",
    "no_rating": "take another model, or a verdict_pattern or verdict_key that reads its replies",
    "aspect_missing": "take fewer or plainer criteria, or another model",
    "rating_out_of_range": "take another model, or say the scale in the rubric as in the question",
    "rating_not_whole": "take another model, or say in the rubric that ratings are whole numbers",
    "reply_cut": "raise judge.server.max_tokens (in this process: max_reply_tokens)",
    "unclosed_thought": "raise thinking_tokens, or switch thinking off with the template's or the "
    "server's own argument",
    "prompt_too_long": 'take a judge with a longer context, or overlong = "cut"',
    "refused": "take another model or rubric",
}


def drawn_first(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Those to judge before all others: a draw that depends on their ids alone; none of a few."""
    if len(comparisons) < FEWEST_COMPARISONS:
        return []
    size = min(len(comparisons), FIRST_VERDICTS // len(BOTH_ORDERS))
    by_id = sorted(comparisons, key=lambda c: c.comparison_id)
    seed = seed_from(0, "first-look", *(c.comparison_id for c in by_id))
    return Random(seed).sample(by_id, size)


def refuse_silent(
    judge: Judge, rows: Sequence[Mapping[str, Any]], shown: Sequence[Comparison]
) -> None:
    """Stop where a judge says nothing of use.

    Args:
        judge: the judge.
        rows: its rows of VERDICTS on the comparisons that were drawn.
        shown: these comparisons.

    Raises:
        BackendError: nearly all are unscored; says why, shows what the model would rather write,
            and what to change.
    """
    reasons = Counter(row["unscored_reason"] for row in rows if row["verdict"] is None)
    failed = sum(reasons.values())
    if not rows or failed < NEARLY_ALL * len(rows):
        return
    [(reason, _)] = reasons.most_common(1)
    row = next(row for row in rows if row["unscored_reason"] == reason)
    example = _example(judge, row, shown)
    raise BackendError(
        f"{judge.name}: {failed} of the first {len(rows)} verdicts are unscored, most of them "
        f"{reason} ({row['unscored_detail'] or 'no detail'})"
        f"{f'; it writes {example!r} instead' if example else ''}; "
        f"{_REMEDIES.get(reason, 'take another judge')}"
    )


def _example(judge: Judge, row: Mapping[str, Any], shown: Sequence[Comparison]) -> str:
    """What the model has written, or would have."""
    written = str(row["raw"] or "")
    would: Callable[[Comparison], str] | None = getattr(judge, "would_write", None)
    if not written and would is not None:
        by_id = {c.comparison_id: c for c in shown}
        written = would(by_id[row["comparison_id"]])
    return " ".join(written.split())[:_SHOWN_CHARACTERS]
