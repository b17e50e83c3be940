"""Accuracy by source, category and annotator, as RewardBench reports it by subset."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from evals.judge_card.agreement import rate
from schemas.labels import LabeledComparison, Preference
from schemas.results.judge_card import Subset

Member = tuple[str, str, Preference | None]
"""What a comparison belongs to (`source`, `category` or `annotator`), its name, and the label that
is taken as true there; None takes the comparison's own."""
Members = Mapping[str, Sequence[Member]]
"""By comparison_id."""

MOST = 50
"""Subsets of one sort that are shown, the largest first."""


def members_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Member]]:
    """What each row of a comparisons table belongs to, as far as it says so."""
    return {row["comparison_id"]: _of_row(row) for row in rows}


def _of_row(row: Mapping[str, Any]) -> list[Member]:
    named: list[Member] = [
        (by, str(row[by]), None) for by in ("source", "category") if row.get(by) is not None
    ]
    for said in row.get("annotations") or ():
        if said.get("annotator") is not None and said.get("label") is not None:
            named.append(("annotator", str(said["annotator"]), Preference(said["label"])))
    return named


def accuracy_by_subset(
    judged: Sequence[tuple[LabeledComparison, Preference]], members: Members
) -> list[Subset]:
    """Accuracy in each subset, intervals clustered by prompt; nothing of a sort that has only one.

    Args:
        judged: comparisons and the side that is ahead, a tie where neither is.
        members: what the comparisons belong to.
    """
    found: dict[str, dict[str, tuple[list[float], list[str]]]] = defaultdict(dict)
    for unit, ahead in judged:
        for by, name, own in members.get(unit.comparison.comparison_id, ()):
            label = unit.label if own is None else own
            if label is not Preference.TIE:
                hits, prompts = found[by].setdefault(name, ([], []))
                hits.append(float(ahead is label))
                prompts.append(unit.comparison.prompt_id)
    return [
        Subset(by=by, name=name, accuracy=rate(*of_it))
        for by, subsets in found.items()
        if len(subsets) > 1
        for name, of_it in sorted(subsets.items(), key=lambda one: (-len(one[1][0]), one[0]))[:MOST]
    ]
