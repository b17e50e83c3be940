"""Every verdict to browse: what was compared, and what each judge said in both orders."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from evals.judges.ratings.charging import answers_of, is_pointwise
from schemas.ids import seed_from
from stages.report.gather.sources import Json, Rows
from stages.report.page.text import clip

MAX_TEXT = 600
MAX_REPLY = 400
OUTCOMES = ("split", "unscored", "baseline", "tie", "policy")
"""How both orders of a judge go together, the doubtful ones first."""

_SIDES = {"A": "policy", "B": "baseline", "Tie": "tie"}


def verdict_list(
    comparisons: Rows,
    verdicts: Rows,
    judge: str | None,
    count: int,
    seed: int,
    people: Mapping[str, str] | None = None,
) -> Json:
    """The comparisons with their verdicts, doubtful ones first; at most `count`, drawn by `seed`.

    Args:
        comparisons: A = policy, B = baseline.
        verdicts: of any number of judges, in any number of orders.
        judge: the judge by whom a comparison is sorted and found.
        count: how many comparisons are listed; of more, these are a fair sample.
        seed: of that sample.
        people: comparison_id -> A, B or Tie, what most people said of it.

    Returns:
        `{n_comparisons, outcomes: {outcome: n}, entries}`; an entry is `{comparison_id, category,
        prompt, policy, baseline, outcome, verdicts: [...]}`, texts clipped.
    """
    said: dict[str, Rows] = defaultdict(list)
    for row in verdicts:
        said[row["comparison_id"]].append(row)
    labelled = {key: _SIDES[label] for key, label in (people or {}).items()}
    drawn = sorted(comparisons, key=lambda c: (seed_from(seed, c["comparison_id"]), str(c)))
    entries = [
        _entry(c, said[c["comparison_id"]], judge, labelled.get(c["comparison_id"]))
        for c in drawn[:count]
    ]
    entries.sort(key=lambda entry: OUTCOMES.index(entry["outcome"]))
    found = Counter(entry["outcome"] for entry in entries)
    return {
        "n_comparisons": len(comparisons),
        "outcomes": {outcome: found[outcome] for outcome in OUTCOMES if found[outcome]},
        "entries": entries,
    }


def _entry(
    comparison: Mapping[str, Any], rows: Rows, judge: str | None, people: str | None
) -> Json:
    ordered = sorted(rows, key=lambda row: (row["judge"], row["order"]))
    mine = [row for row in ordered if row["judge"] == judge]
    return {
        "comparison_id": comparison["comparison_id"],
        "category": comparison["category"],
        "prompt": _last_turn(comparison["prompt"]),
        "policy": _last_turn(comparison["completion_a"]),
        "baseline": _last_turn(comparison["completion_b"]),
        "outcome": outcome_of(_sides(mine)),
        "policy_score": _mean(scores := [s for s in map(_score, mine) if s is not None]),
        "order_gap": max(scores) - min(scores) if len(scores) > 1 else None,
        "judges_disagree": _judges_disagree(ordered),
        "people": people,
        "people_disagree": people is not None and people != outcome_of(_sides(mine)),
        "verdicts": [_verdict(row) for row in answers_of(ordered)],
    }


def _sides(rows: Rows) -> list[str | None]:
    return [_SIDES.get(row["verdict"]) for row in rows]


def _judges_disagree(rows: Rows) -> bool:
    """Whether two judges that have made up their minds name other sides."""
    by_judge: dict[str, Rows] = defaultdict(list)
    for row in rows:
        by_judge[row["judge"]].append(row)
    found = {outcome_of(_sides(own)) for own in by_judge.values()} - {"split", "unscored"}
    return len(found) > 1


def outcome_of(sides: list[str | None]) -> str:
    """policy, baseline or tie where all orders say so, split where they differ, or unscored."""
    if None in sides or not sides:
        return "unscored"
    return str(sides[0]) if len(set(sides)) == 1 else "split"


def _score(row: Mapping[str, Any]) -> float | None:
    """The policy's soft score in one order; None where it was not scored."""
    if row["verdict"] is None:
        return None
    if row["p_a"] is None:
        return {"A": 1.0, "B": 0.0}.get(row["verdict"], 0.5)
    return float(row["p_a"]) + float(row["p_tie"] or 0.0) / 2


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _verdict(row: Mapping[str, Any]) -> Json:
    reply, more = clip(row["raw"] or "", MAX_REPLY)
    return {
        "judge": row["judge"],
        "shown_first": None
        if is_pointwise(row)
        else "policy"
        if row["order"] == "ab"
        else "baseline",
        "ratings": ratings_of(row),
        "verdict": _SIDES.get(row["verdict"]),
        "p_policy": row["p_a"],
        "p_tie": row["p_tie"],
        "p_baseline": row["p_b"],
        "label_mass": row["label_mass"],
        "unscored_reason": row["unscored_reason"],
        "unscored_detail": clip(row["unscored_detail"] or "", MAX_REPLY)[0],
        "reply": reply,
        "reply_more": more,
    }


def ratings_of(row: Mapping[str, Any]) -> Json | None:
    """What either side was rated, where each was by itself; None for other judges."""
    if not row.get("rated") or not is_pointwise(row):
        return None
    return {"policy": row["rating_a"], "baseline": row["rating_b"]}


def _last_turn(messages: Any) -> Json:
    content, more = clip(messages[-1]["content"] if messages else "", MAX_TEXT)
    return {"content": content, "more_characters": more}
