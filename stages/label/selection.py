"""From what the judge said of a prompt's candidates to its preference pairs, or why there is none.

`all_pairs` keeps every candidate pair that resolves. `best_vs_worst` ranks the completions by their
mean soft score over all opponents and both orders, and keeps the best against the worst where the
judge, asked about these two, says the same. `best_vs_random` and `best_vs_mean` put the best beside
another opponent.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evals.judges.resolution import Resolution, mean_of, resolve
from schemas.ids import content_id
from schemas.labels import LabelProbabilities, Order, Preference, Unscored, Verdict
from stages.label.candidates import Candidate, Row
from stages.label.config import Truncated

Verdicts = Mapping[Order, Verdict]


@dataclass(frozen=True)
class Judged:
    """A candidate, what both orders said of it, and what they say together."""

    candidate: Candidate
    verdicts: Verdicts
    resolution: Resolution

    @classmethod
    def of(cls, candidate: Candidate, verdicts: Verdicts, min_margin: float) -> "Judged":
        """Resolve the two orders."""
        return cls(
            candidate,
            verdicts,
            resolve(verdicts[Order.AB], verdicts[Order.BA], min_margin),
        )

    @property
    def chosen_row(self) -> Row:
        """The better completion; only where the resolution is usable."""
        first = self.resolution.label is Preference.A
        return self.candidate.row_a if first else self.candidate.row_b

    @property
    def rejected_row(self) -> Row:
        """The worse completion; only where the resolution is usable."""
        first = self.resolution.label is Preference.A
        return self.candidate.row_b if first else self.candidate.row_a


@dataclass(frozen=True)
class Drop:
    """A candidate that makes no pair, and why."""

    judged: Judged
    reason: str
    detail: str = ""


Outcome = Judged | Drop


def all_pairs(judged: Sequence[Judged], truncated: Truncated) -> list[Outcome]:
    """One outcome per candidate."""
    return [_outcome(one, truncated) for one in judged]


Pick = Callable[[Sequence[Row], Mapping[str, float]], Row]
"""The opponent of the best, out of the other completions and the scores by completion_id."""


def best_vs_worst(judged: Sequence[Judged], truncated: Truncated) -> list[Outcome]:
    """One outcome per prompt: the best against the worst."""

    def worst(others: Sequence[Row], scores: Mapping[str, float]) -> Row:
        return min(others, key=lambda r: (scores[r["completion_id"]], r["sample_index"]))

    return _best_against(worst, "worst", judged, truncated)


def best_vs_random(judged: Sequence[Judged], truncated: Truncated) -> list[Outcome]:
    """One outcome per prompt: the best against another that the ids draw, the same each time."""

    def drawn(others: Sequence[Row], scores: Mapping[str, float]) -> Row:
        return min(others, key=lambda r: content_id("opponent", str(r["completion_id"])))

    return _best_against(drawn, "drawn", judged, truncated)


def best_vs_mean(judged: Sequence[Judged], truncated: Truncated) -> list[Outcome]:
    """One outcome per prompt: the best against the one nearest to the mean score of the others."""

    def middle(others: Sequence[Row], scores: Mapping[str, float]) -> Row:
        mean = math.fsum(scores[r["completion_id"]] for r in others) / len(others)
        return min(
            others, key=lambda r: (abs(scores[r["completion_id"]] - mean), r["sample_index"])
        )

    return _best_against(middle, "middle", judged, truncated)


def _best_against(
    pick: Pick, called: str, judged: Sequence[Judged], truncated: Truncated
) -> list[Outcome]:
    """One outcome per prompt.

    Of completions with equal scores the one sampled first is taken; a truncated one is never the
    best where truncated completions may only be rejected.
    """
    scores = soft_scores(judged)
    rows = {
        row["completion_id"]: row
        for one in judged
        for row in (one.candidate.row_a, one.candidate.row_b)
    }
    ranked = [rows[name] for name in scores]
    if len(ranked) < 2:
        return [_outcome(judged[0], truncated)]
    able = [r for r in ranked if truncated != "rejected_only" or r["finish_reason"] != "length"]
    if not able:
        return [Drop(judged[0], "chosen_truncated", "every completion ran into max_tokens")]

    def score(row: Row) -> float:
        return scores[row["completion_id"]]

    best = min(able, key=lambda r: (-score(r), r["sample_index"]))
    others = [r for r in ranked if r is not best]
    worst = pick(others, scores)
    direct = _between(judged, best, worst)
    scored = f"best {score(best):.3f}, {called} {score(worst):.3f}"
    if score(best) < score(worst):
        return [Drop(direct, "chosen_truncated", scored)]
    if score(best) == score(worst) and direct.resolution.usable:
        return [Drop(direct, "tie", scored)]
    if direct.resolution.usable and direct.chosen_row is not best:
        return [Drop(direct, "ranking_disagrees", f"the {called} one beats the best of all")]
    return [_outcome(direct, truncated)]


def soft_scores(judged: Sequence[Judged]) -> dict[str, float]:
    """Mean soft score of each completion in [0, 1], by completion_id in order of appearance.

    Over all opponents and both orders; a comparison with an unscored order is left out.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for one in judged:
        scored = [v for v in one.verdicts.values() if isinstance(v, LabelProbabilities)]
        if len(scored) < len(one.verdicts):
            continue
        mean = mean_of(scored)
        found[one.candidate.row_a["completion_id"]].append(mean.score_a)
        found[one.candidate.row_b["completion_id"]].append(mean.swap().score_a)
    return {name: math.fsum(scores) / len(scores) for name, scores in found.items()}


def _between(judged: Sequence[Judged], best: Row, worst: Row) -> Judged:
    wanted = {best["completion_id"], worst["completion_id"]}
    return next(
        one
        for one in judged
        if {one.candidate.row_a["completion_id"], one.candidate.row_b["completion_id"]} == wanted
    )


def _outcome(one: Judged, truncated: Truncated) -> Outcome:
    if one.resolution.reason is not None:
        return Drop(one, one.resolution.reason, _detail(one))
    if truncated == "rejected_only" and one.chosen_row["finish_reason"] == "length":
        return Drop(one, "chosen_truncated", "the better completion ran into max_tokens")
    return one


def _detail(one: Judged) -> str:
    if one.resolution.margin is not None:
        return f"margin {one.resolution.margin:.3f}"
    return next((v.detail for v in one.verdicts.values() if isinstance(v, Unscored)), "")
