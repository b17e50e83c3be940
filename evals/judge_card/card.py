"""The judge card: what a judge is worth, measured on labels it has never seen."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.judge_card.agreement import (
    Clusters,
    Labels,
    accuracy,
    cohen_kappa,
    confusion,
    difference,
    flip_rate,
    hits,
    p_first,
    position_consistency,
    position_gap,
    rate,
)
from evals.judge_card.calibration import brier_score, expected_calibration_error, reliability
from evals.judge_card.human_agreement import MIN_ANNOTATORS, Annotated, human_ceiling
from evals.judge_card.subsets import Members, accuracy_by_subset
from evals.judges.kinds.length import longer
from evals.judges.orders import verdict_of
from evals.judges.ratings.charging import answers_of, is_pointwise
from evals.judges.resolution import mean_of
from evals.statistics.means import mean
from schemas.labels import (
    BOTH_ORDERS,
    LabeledComparison,
    LabelProbabilities,
    Order,
    Preference,
    Unscored,
    Verdict,
)
from schemas.results.base import Estimate
from schemas.results.judge_card import HumanCeiling, JudgeCard, TrivialJudges, UnscoredRate

VerdictRow = Mapping[str, Any]
_Judged = tuple[LabeledComparison, Mapping[Order, LabelProbabilities]]


@dataclass(frozen=True)
class _Units:
    """Comparisons that were scored, their prompts, and what was said of them; all (n,)."""

    prompts: Clusters
    truth: Labels
    answers: Sequence[LabelProbabilities]
    longest: Labels

    @property
    def predicted(self) -> list[Preference]:
        return [answer.preference for answer in self.answers]

    @property
    def sides(self) -> list[Preference]:
        """The side with the higher mean score, however slightly; a tie where neither has."""
        return [_side(answer.score_a) for answer in self.answers]

    @property
    def first(self) -> list[Preference]:
        return [Preference.A] * len(self.truth)

    def only(self, keep: Sequence[bool]) -> "_Units":
        def pick(values: Sequence[Any]) -> list[Any]:
            return [value for value, kept in zip(values, keep, strict=True) if kept]

        return _Units(*map(pick, (self.prompts, self.truth, self.answers, self.longest)))


def build_card(
    labelled: Sequence[LabeledComparison],
    verdicts: Sequence[VerdictRow],
    *,
    judge: str,
    kind: str,
    fingerprint: str,
    members: Members | None = None,
) -> JudgeCard:
    """Measure a judge against labels.

    A comparison counts as scored where every order it was judged in is scored; its answer is the
    mean of the orders' probabilities, its label the likeliest of the three. Rates are
    `{value, ci_low, ci_high, n}` with intervals clustered by prompt, all None where nothing was
    scored.

    Args:
        labelled: comparisons with the labels taken as true; ids must be unique.
        verdicts: VERDICTS rows of one judge, in one order or both.
        judge: the judge's name.
        kind: its kind.
        fingerprint: its fingerprint.
        members: of which source, category and annotators a comparison is, for `subsets`.

    Returns:
        The card. `baselines.longest` and `baselines.first` are the accuracies of
        the longer completion and of always A on the comparisons that were scored.
        `accuracy_by_side`, where the label is no tie, takes the side that is ahead for the answer:
        a verdict and a tie are a verdict (JudgeBench's rule). `human_ceiling` is of comparisons
        that at least two people have labelled.
    """
    own = answers_of(verdicts)  # of ratings both orders are one answer
    by_id = _by_comparison(own)
    judged = [(unit, by_id.get(unit.comparison.comparison_id, {})) for unit in labelled]
    scored: list[_Judged] = [
        (unit, {order: v for order, v in orders.items() if isinstance(v, LabelProbabilities)})
        for unit, orders in judged
        if orders and not any(isinstance(v, Unscored) for v in orders.values())
    ]
    units = _units(scored)
    table = reliability(units.truth, units.answers)
    return JudgeCard(
        judge=judge,
        kind=kind,
        fingerprint=fingerprint,
        n=len(labelled),
        n_scored=len(scored),
        n_prompts=len({unit.comparison.prompt_id for unit in labelled}),
        **_agreement(units),
        **_position(scored),
        human_ceiling=_human_ceiling(scored),
        unscored_rate=_unscored([orders for _, orders in judged]),
        reliability=table,
        ece=expected_calibration_error(table),
        brier=brier_score(units.truth, units.answers),
        subsets=accuracy_by_subset(
            list(zip([unit for unit, _ in scored], units.sides, strict=True)), members or {}
        ),
        pointwise=bool(own) and all(map(is_pointwise, own)),
        criteria=_by_criterion(labelled, own),
    )


def _by_criterion(
    labelled: Sequence[LabeledComparison], rows: Sequence[VerdictRow]
) -> dict[str, Estimate]:
    """The accuracy of each criterion's side, its mean over the orders that say one."""
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for said in row.get("criteria") or ():
            scores[said["criterion"]][row["comparison_id"]].append(said["score_a"])
    found = {}
    for name, of in scores.items():
        known = [unit for unit in labelled if unit.comparison.comparison_id in of]
        sides = [_side(mean(of[unit.comparison.comparison_id])) for unit in known]
        prompts = [unit.comparison.prompt_id for unit in known]
        found[name] = accuracy([unit.label for unit in known], sides, prompts)
    return found


def _by_comparison(rows: Sequence[VerdictRow]) -> dict[str, dict[Order, Verdict]]:
    found: dict[str, dict[Order, Verdict]] = {}
    for row in rows:
        found.setdefault(row["comparison_id"], {})[Order(row["order"])] = verdict_of(row)
    return found


def _units(scored: Sequence[_Judged]) -> _Units:
    return _Units(
        prompts=[unit.comparison.prompt_id for unit, _ in scored],
        truth=[unit.label for unit, _ in scored],
        answers=[mean_of(list(orders.values())) for _, orders in scored],
        longest=[
            longer(unit.comparison.completion_a, unit.comparison.completion_b) for unit, _ in scored
        ],
    )


def _side(score: float) -> Preference:
    if math.isclose(score, 0.5):
        return Preference.TIE
    return Preference.A if score > 0.5 else Preference.B


def _agreement(units: _Units) -> dict[str, Any]:
    decided = units.only([label is not Preference.TIE for label in units.truth])
    right = hits(units.truth, units.predicted)
    return {
        "accuracy": accuracy(units.truth, units.predicted, units.prompts),
        "accuracy_non_ties": accuracy(decided.truth, decided.predicted, decided.prompts),
        "accuracy_by_side": accuracy(decided.truth, decided.sides, decided.prompts),
        "kappa": cohen_kappa(units.truth, units.predicted, units.prompts),
        "confusion": confusion(units.truth, units.predicted),
        "baselines": TrivialJudges(
            longest=accuracy(units.truth, units.longest, units.prompts),
            first=accuracy(units.truth, units.first, units.prompts),
            longest_non_ties=accuracy(decided.truth, decided.longest, decided.prompts),
        ),
        "lift_over_longest": difference(right, hits(units.truth, units.longest), units.prompts),
        "lift_over_first": difference(right, hits(units.truth, units.first), units.prompts),
    }


def _position(scored: Sequence[_Judged]) -> dict[str, Any]:
    both = [(unit, orders) for unit, orders in scored if len(orders) == len(BOTH_ORDERS)]
    prompts = [unit.comparison.prompt_id for unit, _ in both]
    ab = [orders[Order.AB].preference for _, orders in both]
    ba = [orders[Order.BA].preference for _, orders in both]
    soft = {order: [orders[order].score_a for _, orders in both] for order in BOTH_ORDERS}
    return {
        "position_consistency": position_consistency(ab, ba, prompts),
        "flip_rate": flip_rate(ab, ba, prompts),
        "p_first": p_first(ab, ba, prompts),
        "position_gap": position_gap(soft[Order.AB], soft[Order.BA], prompts),
    }


def _human_ceiling(scored: Sequence[_Judged]) -> HumanCeiling:
    known = [(u, orders) for u, orders in scored if len(u.annotations) >= MIN_ANNOTATORS]
    return human_ceiling(
        Annotated(
            annotations=[unit.annotations for unit, _ in known],
            predicted=[mean_of(list(orders.values())).preference for _, orders in known],
            prompts=[unit.comparison.prompt_id for unit, _ in known],
        )
    )


def _unscored(judged: Sequence[Mapping[Order, Verdict]]) -> UnscoredRate:
    failures = [v.reason for orders in judged for v in orders.values() if isinstance(v, Unscored)]
    rates = {
        order.value: rate(
            [float(isinstance(orders[order], Unscored)) for orders in judged if order in orders]
        )
        for order in BOTH_ORDERS
    }
    return UnscoredRate(
        **rates,
        n=sum(len(orders) for orders in judged),
        by_reason=dict(sorted(Counter(failures).items())),
    )
