"""How far a judge agrees with people: pure statistics over labels.

Units may come in clusters (several comparisons of one prompt); intervals then rest on the clusters.
Estimates without data have no value, rather than a zero.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from evals.statistics.estimates import mean_difference
from evals.statistics.intervals import Z95, wilson_effective
from evals.statistics.means import clustered_standard_error
from schemas.labels import Preference
from schemas.results.base import Estimate

Labels = Sequence[Preference]
Clusters = Sequence[Hashable]


NOTHING = Estimate()


def rate(scores: Sequence[float], clusters: Clusters | None = None) -> Estimate:
    """Mean of scores in [0, 1] with a Wilson interval over the effective number of clusters.

    Args:
        scores: one per unit, (n,).
        clusters: what each unit belongs to, (n,); None takes every unit for itself.
    """
    if not scores:
        return NOTHING
    value, error, low, high = _mean_and_interval(scores, clusters)
    return Estimate(value=value, standard_error=error, ci_low=low, ci_high=high, n=len(scores))


def _mean_and_interval(
    scores: Sequence[float], clusters: Clusters | None
) -> tuple[float, float | None, float, float]:
    owners = range(len(scores)) if clusters is None else clusters
    mean = min(1.0, math.fsum(scores) / len(scores))
    error = clustered_standard_error(scores, owners)
    known = None if math.isnan(error) else error
    return mean, known, *wilson_effective(mean, error, len(set(owners)))


def accuracy(truth: Labels, predicted: Labels, clusters: Clusters | None = None) -> Estimate:
    """Share of units whose predicted label is the true one."""
    return rate(hits(truth, predicted), clusters)


def hits(truth: Labels, predicted: Labels) -> list[float]:
    """1.0 where the labels are equal, else 0.0: (n,)."""
    return [float(t is p) for t, p in zip(truth, predicted, strict=True)]


def difference(
    scores: Sequence[float], others: Sequence[float], clusters: Clusters | None = None
) -> Estimate:
    """Mean of `scores` less mean of `others`, two ratings of the same units."""
    differences = [one - other for one, other in zip(scores, others, strict=True)]
    if not differences:
        return NOTHING
    return mean_difference(differences, clusters or range(len(differences)))


def confusion(truth: Labels, predicted: Labels) -> dict[str, dict[str, int]]:
    """Counts by true label, then by predicted label; every label is there."""
    counts = Counter(zip(truth, predicted, strict=True))
    return {t.value: {p.value: counts[t, p] for p in Preference} for t in Preference}


def cohen_kappa(truth: Labels, predicted: Labels, clusters: Clusters | None = None) -> Estimate:
    """Cohen's kappa over the three labels, unweighted.

    kappa = (p_o - p_e) / (1 - p_e) (J. Cohen 1960). Interval: kappa ± 1.96 SE. Each unit moves
    kappa by (hit - (1 - kappa) (q[truth] + r[predicted])) / (1 - p_e), q and r the shares of a
    label among predicted and true ones; SE is the clustered standard error of these values. Without
    clusters it is that of Fleiss, Cohen and Everitt (1969, eq. 13), times sqrt(n / (n - 1)).
    Where it is 0 (perfect agreement) the Wilson interval of p_o goes through kappa's formula.
    No value where one label is all that either side ever says (p_e = 1).
    """
    n = len(truth)
    of_truth, of_predicted = Counter(truth), Counter(predicted)
    expected = sum(of_truth[k] * of_predicted[k] for k in Preference) / (n * n) if n else 1.0
    if math.isclose(expected, 1.0):
        return Estimate(n=n)
    right = hits(truth, predicted)
    observed = math.fsum(right) / n
    kappa = (observed - expected) / (1 - expected)
    influence = [
        (hit - (1 - kappa) * (of_predicted[t] + of_truth[p]) / n) / (1 - expected)
        for hit, t, p in zip(right, truth, predicted, strict=True)
    ]
    owners = range(n) if clusters is None else clusters
    error = clustered_standard_error(influence, owners)
    if error > 1e-9:
        low, high = kappa - Z95 * error, kappa + Z95 * error
    else:
        ends = wilson_effective(observed, math.nan, len(set(owners)))
        low, high = ((p - expected) / (1 - expected) for p in ends)
    return Estimate(value=kappa, ci_low=max(-1.0, low), ci_high=min(1.0, high), n=n)


def position_consistency(ab: Labels, ba: Labels, clusters: Clusters | None = None) -> Estimate:
    """Share of comparisons whose two orders give the same label, both about their own A and B."""
    return accuracy(ab, ba, clusters)


def flip_rate(ab: Labels, ba: Labels, clusters: Clusters | None = None) -> Estimate:
    """Share of comparisons whose two orders name opposite sides; ties contradict nobody."""
    flips = [
        float(one is not other and Preference.TIE not in (one, other))
        for one, other in zip(ab, ba, strict=True)
    ]
    return rate(flips, clusters)


def position_gap(
    ab: Sequence[float], ba: Sequence[float], clusters: Clusters | None = None
) -> Estimate:
    """Mean soft score of A shown first less that of A shown second, in [-1, 1].

    0 is unbiased, above 0 favours the first place, 1 follows the place alone.

    Args:
        ab: soft scores of A in order ab, (n,).
        ba: of the same comparisons in order ba, (n,).
        clusters: of the comparisons, (n,).
    """
    return difference(ab, ba, clusters)


def p_first(ab: Labels, ba: Labels, clusters: Clusters | None = None) -> Estimate:
    """Share of verdicts for the completion shown first, among those that name a side.

    Shown in order ab the first one is A, in order ba it is B. 0.5 is unbiased.

    Args:
        ab: labels from order ab, (n,).
        ba: labels of the same comparisons from order ba, (n,).
        clusters: of the comparisons, (n,).
    """
    owners = list(range(len(ab)) if clusters is None else clusters)
    shown = [(label, Preference.A, owner) for label, owner in zip(ab, owners, strict=True)]
    shown += [(label, Preference.B, owner) for label, owner in zip(ba, owners, strict=True)]
    decided = [
        (float(label is first), owner)
        for label, first, owner in shown
        if label is not Preference.TIE
    ]
    return rate([score for score, _ in decided], [owner for _, owner in decided])
