"""Whether a judge is as often right as it is sure: pure statistics over probabilities."""

import math
from collections.abc import Sequence

from evals.judge_card.agreement import Labels, rate
from schemas.labels import LabelProbabilities, Preference
from schemas.results.judge_card import ReliabilityBin


def confidence(probabilities: LabelProbabilities) -> float:
    """Probability of the label that the answer comes down to."""
    of = {
        Preference.A: probabilities.p_a,
        Preference.B: probabilities.p_b,
        Preference.TIE: probabilities.p_tie,
    }
    return of[probabilities.preference]


def reliability(
    truth: Labels, answers: Sequence[LabelProbabilities], bins: int = 10
) -> list[ReliabilityBin]:
    """Reliability table: confidence against accuracy in bins of equal width over [0, 1].

    (M. DeGroot and S. Fienberg 1983.) The last bin holds confidence 1. Empty bins stay in the
    table.
    """
    rows: list[list[tuple[float, float]]] = [[] for _ in range(bins)]
    for label, answer in zip(truth, answers, strict=True):
        sure = confidence(answer)
        rows[min(bins - 1, int(sure * bins))].append((sure, float(answer.preference is label)))
    return [
        ReliabilityBin(
            low=index / bins,
            high=(index + 1) / bins,
            n=len(row),
            mean_confidence=math.fsum(sure for sure, _ in row) / len(row) if row else None,
            accuracy=rate([hit for _, hit in row]),
        )
        for index, row in enumerate(rows)
    ]


def expected_calibration_error(table: Sequence[ReliabilityBin]) -> float | None:
    """sum_b n_b / n |accuracy_b - confidence_b| (M. P. Naeini et al. 2015); None without data.

    It averages over-confidence away where most answers are certain: read the table beside it.
    """
    n = sum(row.n for row in table)
    if not n:
        return None
    gaps = (
        row.n / n * abs(row.accuracy.value - row.mean_confidence)
        for row in table
        if row.accuracy.value is not None and row.mean_confidence is not None
    )
    return math.fsum(gaps)


def brier_score(truth: Labels, answers: Sequence[LabelProbabilities]) -> float | None:
    """mean_i sum_k (p_ik - y_ik)² over A, B and Tie, in [0, 2] (G. W. Brier 1950, eq. 2)."""
    if not truth:
        return None
    squares = (
        (answer.p_a - (label is Preference.A)) ** 2
        + (answer.p_b - (label is Preference.B)) ** 2
        + (answer.p_tie - (label is Preference.TIE)) ** 2
        for label, answer in zip(truth, answers, strict=True)
    )
    return math.fsum(squares) / len(truth)
