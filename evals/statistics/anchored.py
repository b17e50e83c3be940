"""A rate of all units anchored in people's labels of a few: prediction-powered inference (PPI++).

(A. Angelopoulos, J. Duchi and T. Zrnic, arXiv 2311.01453; P. Boyeau et al., arXiv 2403.07008.)
The judge scores every unit, people a random few; the judge's mean is corrected by how far it is off
where people have spoken. The rate is right whatever the judge is worth; a good judge narrows it.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evals.statistics.intervals import wilson, wilson_effective
from evals.statistics.means import NO_SPREAD
from evals.statistics.student import Z975, t975
from schemas.results.base import Estimate

Array = npt.NDArray[np.float64]
_POWER_Z = Z975 + 0.8416212335729143


@dataclass(frozen=True)
class Anchored:
    """The people's rate alone, the anchored one, and the weight of the judge in it.

    `labels_to_settle`: labels at which the distance of the anchored rate from one half would show
    with 80% power, of the same units; None where even all of them would not do, or it is 0.
    """

    people: Estimate
    anchored: Estimate
    weight: float
    labels_to_settle: int | None


def anchored_rate(
    judged: Array, labels: Array, labelled: npt.NDArray[np.bool_], probability: Array | None = None
) -> Anchored:
    """Anchor the judge's scores in people's labels.

    Alike likely to be labelled, n of M units, with N = M - n without a label:

        rate = w mean_N f + mean_n (Y - w f),  Var = w² Var_N(f) / N + Var_n(Y - w f) / n,
        w = Cov_n(Y, f) / ((1 + n/N) Var f), kept in [0, 1].

    With unequal known probabilities p: rate = 1/M [sum_M w f + sum_n (Y - w f) / p], the p scaled
    so that the labelled units stand for all M (an audit may end early); Var is that of the M units'
    contributions over M, w what makes it smallest. Quantiles are Student's on n - 1 degrees.

    Args:
        judged: the judge's score f of every unit, in [0, 1], (M,).
        labels: people's score Y, in [0, 1], (M,); read where `labelled`.
        labelled: which units people have scored, (M,), drawn at random.
        probability: with which each unit was drawn to be labelled, (M,); None where all the same.

    Raises:
        ValueError: fewer than two labels.
    """
    n = int(labelled.sum())
    if n < 2:
        raise ValueError("a rate is anchored in at least two labels")
    y, f = labels[labelled], judged[labelled]
    if probability is None or np.ptp(probability[labelled]) < NO_SPREAD:
        return _even(y, f, judged[~labelled])
    return _uneven(y, f, judged, labelled, probability[labelled])


def _even(y: Array, f: Array, rest: Array) -> Anchored:
    n, others = len(y), len(rest)
    people = _people(float(y.mean()), _error(y), n)
    if not others:
        return Anchored(people, people, 0.0, None)
    spread = float(np.concatenate([f, rest]).var(ddof=1))
    weight = 0.0
    if spread > NO_SPREAD:
        shared = float(np.cov(y, f, ddof=1)[0, 1])
        weight = min(1.0, max(0.0, shared / ((1 + n / others) * spread)))
    off = y - weight * f
    rate = weight * float(rest.mean()) + float(off.mean())
    of_rest = weight**2 * float(rest.var(ddof=1)) if others > 1 else 0.0
    of_labels = float(off.var(ddof=1))
    error = math.sqrt(of_rest / others + of_labels / n)
    found = _estimate(rate, error, n)
    return Anchored(people, found, weight, _settle(rate, of_rest, of_labels, n + others))


def _uneven(
    y: Array, f: Array, judged: Array, labelled: npt.NDArray[np.bool_], probability: Array
) -> Anchored:
    total, n = len(judged), len(y)
    stands_for = 1 / probability
    stands_for *= total / stands_for.sum()
    mean_y, mean_f = (float(stands_for @ values) / total for values in (y, f))
    of_people, of_judge = np.zeros(total), judged - judged.mean()
    of_people[labelled] = stands_for * (y - mean_y)
    of_judge[labelled] -= stands_for * (f - mean_f)
    spread = float(of_judge.var(ddof=1))
    weight = 0.0
    if spread > NO_SPREAD:
        shared = float(np.cov(of_people, of_judge, ddof=1)[0, 1])
        weight = min(1.0, max(0.0, -shared / spread))
    rate = weight * float(judged.mean()) + float(stands_for @ (y - weight * f)) / total
    error = math.sqrt(float((of_people + weight * of_judge).var(ddof=1)) / total)
    alone = math.sqrt(float(of_people.var(ddof=1)) / total)
    of_labels = float((y - weight * f).var(ddof=1))
    settle = _settle(rate, weight**2 * float(judged.var(ddof=1)), of_labels, total)
    return Anchored(_people(mean_y, alone, n), _estimate(rate, error, n), weight, settle)


def _error(values: Array) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def _people(rate: float, error: float, n: int) -> Estimate:
    rate = min(1.0, max(0.0, rate))
    low, high = wilson_effective(rate, error, n, t975(n - 1))
    return Estimate(value=rate, standard_error=error, ci_low=low, ci_high=high, n=n)


def _estimate(rate: float, error: float, n: int) -> Estimate:
    """With Wilson's interval of the effective number of labels, which stays inside [0, 1]."""
    rate = min(1.0, max(0.0, rate))
    effective = rate * (1 - rate) / error**2 if error > NO_SPREAD else 0.0
    low, high = wilson(rate, effective or n, t975(n - 1))
    return Estimate(value=rate, standard_error=error, ci_low=low, ci_high=high, n=n)


def _settle(rate: float, of_rest: float, of_labels: float, total: int) -> int | None:
    wanted = ((rate - 0.5) / _POWER_Z) ** 2
    n = np.arange(2, total)
    enough = of_rest / (total - n) + of_labels / n <= wanted
    return int(n[enough.argmax()]) if enough.any() else None
