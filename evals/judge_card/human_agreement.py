"""How far the people who label agree with each other: the ceiling that a judge is held against."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from evals.judge_card.agreement import Clusters, Labels, cohen_kappa, rate
from evals.statistics.raters import krippendorff_alpha
from schemas.labels import Preference
from schemas.results.base import Estimate
from schemas.results.judge_card import HumanCeiling

MIN_ANNOTATORS = 2


@dataclass(frozen=True)
class Annotated:
    """Comparisons that several people have labelled: their labels, the judge's, and the prompts.

    All (n,); `annotations` hold at least `MIN_ANNOTATORS` labels each.
    """

    annotations: Sequence[Labels]
    predicted: Labels
    prompts: Clusters


def human_ceiling(units: Annotated) -> HumanCeiling:
    """Agreement of one person with the others, and of the judge with the same others.

    Each annotator of a comparison is left out in turn; a hit is the label that most of the others
    gave, or 1/k of one where k labels are even (Y. Dubois et al. 2023, arXiv 2305.14387, which
    draws one of the k). A judge above the people agrees with their majority better than any one of
    them does. Both numbers are of the same comparisons and the same majorities.

    Returns:
        `annotator` and `judge`, `{value, ci_low, ci_high, n}`, intervals clustered by prompt, and
        `annotators_per_comparison`; values are None where nobody was labelled twice.
    """
    people = [_left_out(labels, labels) for labels in units.annotations]
    judge = [
        _left_out(labels, [said] * len(labels))
        for labels, said in zip(units.annotations, units.predicted, strict=True)
    ]
    counts = [len(labels) for labels in units.annotations]
    return HumanCeiling(
        annotator=rate(people, units.prompts),
        judge=rate(judge, units.prompts),
        annotators_per_comparison=sum(counts) / len(counts) if counts else None,
        kappa=_kappa(units),
        alpha=krippendorff_alpha(units.annotations),
    )


def _kappa(units: Annotated) -> Estimate:
    """Cohen's kappa of every two labels of a comparison, in the order of the annotations."""
    pairs = [
        (one, other, prompt)
        for labels, prompt in zip(units.annotations, units.prompts, strict=True)
        for one, other in combinations(labels, 2)
    ]
    ones, others, prompts = zip(*pairs, strict=True) if pairs else ((), (), ())
    return cohen_kappa(ones, others, prompts)


def _left_out(labels: Labels, answers: Labels) -> float:
    """Mean hit of `answers[i]` against the labels other than the i-th."""
    hits = [
        _hit(answer, [*labels[:index], *labels[index + 1 :]])
        for index, answer in enumerate(answers)
    ]
    return sum(hits) / len(hits)


def _hit(answer: Preference, others: Labels) -> float:
    counts = Counter(others)
    most = max(counts.values())
    modes = [label for label, count in counts.items() if count == most]
    return (answer in modes) / len(modes)
