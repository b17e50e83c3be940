"""Side-by-side examples: what both models wrote, and what each judge said in both orders."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from evals.win_rate.win_rate import prompt_scores
from schemas.ids import seed_from
from stages.report.gather.distributions import histogram
from stages.report.gather.outcome.verdict_list import outcome_of, ratings_of
from stages.report.gather.sources import Json, Rows
from stages.report.page.text import clip

MAX_TURN = 3000
MAX_TURNS = 12


def scores_of_prompts(verdicts: Rows) -> dict[str, dict[str, float]]:
    """judge -> prompt_id -> mean soft score of the policy; prompts without a score are left out."""
    by_judge: dict[str, Rows] = defaultdict(list)
    for row in verdicts:
        by_judge[row["judge"]].append(row)
    return {name: prompt_scores(by_judge[name]) for name in sorted(by_judge)}


def score_distribution(verdicts: Rows) -> Json | None:
    """How sure each judge is: the distribution over prompts of the policy's mean soft score."""
    scores = {name: list(found.values()) for name, found in scores_of_prompts(verdicts).items()}
    return histogram(scores, "score of the policy", (0.0, 1.0), 20)


def draw_examples(
    comparisons: Rows, verdicts: Rows, judge: str | None, count: int, seed: int
) -> Json:
    """Examples drawn by `seed`, and doubtful ones beside them.

    Args:
        comparisons: A = policy, B = baseline.
        verdicts: of any number of judges.
        judge: the judge that decides what is doubtful; None knows no doubt.
        count: examples at random; at most half as many (rounded up) doubtful ones.
        seed: the draw depends on it and on comparison ids alone, not on the order of the rows.

    Returns:
        `{random, doubtful, n_comparisons}`; an example is `{comparison_id, prompt, policy,
        baseline, verdicts: [{judge, outcome, orders, ratings}], outcome}`.
    """
    said = _by_comparison(verdicts)
    drawn = sorted(comparisons, key=lambda c: (seed_from(seed, c["comparison_id"]), str(c)))
    examples = [_example(c, said.get(c["comparison_id"], {}), judge) for c in drawn]
    random, rest = examples[:count], examples[count:]
    doubtful = [e for e in rest if e["outcome"] in ("baseline", "tie", "unscored", "split")]
    doubtful.sort(key=lambda e: _DOUBT[e["outcome"]])
    return {
        "random": random,
        "doubtful": doubtful[: (count + 1) // 2],
        "n_comparisons": len(comparisons),
    }


# The policy's losses first, then contradictions and failures, then ties.
_DOUBT = {"baseline": 0, "split": 1, "unscored": 2, "tie": 3}


def _by_comparison(verdicts: Rows) -> dict[str, dict[str, Rows]]:
    found: dict[str, dict[str, Rows]] = defaultdict(lambda: defaultdict(list))
    for row in verdicts:
        found[row["comparison_id"]][row["judge"]].append(row)
    return found


def _example(comparison: Mapping[str, Any], said: Mapping[str, Rows], judge: str | None) -> Json:
    verdicts = [_judged(name, said[name]) for name in sorted(said)]
    main = next((v["outcome"] for v in verdicts if v["judge"] == judge), None)
    return {
        "comparison_id": comparison["comparison_id"],
        "category": comparison["category"],
        "prompt": _turns(comparison["prompt"]),
        "policy": _turns(comparison["completion_a"]),
        "baseline": _turns(comparison["completion_b"]),
        "verdicts": verdicts,
        "outcome": main,
    }


def _turns(messages: Sequence[Mapping[str, str]]) -> list[Json]:
    """The last turns of a conversation, long ones clipped; what is left out is counted."""
    shown = []
    for message in messages[-MAX_TURNS:]:
        content, more = clip(message["content"], MAX_TURN)
        shown.append({"role": message["role"], "content": content, "more_characters": more})
    if len(messages) > MAX_TURNS:
        shown[0]["earlier_turns"] = len(messages) - MAX_TURNS
    return shown


def _judged(name: str, rows: Rows) -> Json:
    orders = [
        {
            "order": row["order"],
            "shown_first": "policy" if row["order"] == "ab" else "baseline",
            "verdict": _SIDES.get(row["verdict"]),
            "policy_score": None if row["p_a"] is None else row["p_a"] + (row["p_tie"] or 0) / 2,
            "unscored_reason": row["unscored_reason"],
        }
        for row in sorted(rows, key=lambda row: str(row["order"]))
    ]
    return {
        "judge": name,
        "outcome": outcome_of([order["verdict"] for order in orders]),
        "orders": orders,
        "ratings": next((found for row in rows if (found := ratings_of(row))), None),
    }


_SIDES = {"A": "policy", "B": "baseline", "Tie": "tie"}
