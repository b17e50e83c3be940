"""Two policies against one baseline on the same prompts: which is better, and can one tell?

Their win rates are correlated, so that two intervals which overlap say little: the difference is
taken prompt by prompt.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from evals.statistics.conclusions import tested
from evals.statistics.estimates import paired_difference
from evals.statistics.power import Z80
from evals.statistics.student import Z975
from schemas.results.win_rates import PolicyDifference

Name = TypeVar("Name", bound=Hashable)

FLIPS = 10_000
_FLIPS_AT_ONCE = 500


def policy_difference(
    first: Mapping[str, float], second: Mapping[str, float], *, seed: int = 0
) -> PolicyDifference | None:
    """Compare two policies by their scores in [0, 1], by prompt id; None without a common prompt.

    The interval is Bonett and Price's, the conclusion the sign-flip test's.
    """
    found = paired_difference(first, second)
    if found is None or found.value is None or found.ci_low is None or found.ci_high is None:
        return None
    common = sorted(first.keys() & second.keys())
    p_value = sign_flip_p([first[key] - second[key] for key in common], seed=seed)
    # Half the interval is 1.96 errors, those of the pseudo-pairs too.
    detectable = (Z975 + Z80) * (found.ci_high - found.ci_low) / 2 / Z975
    settle = math.ceil(found.n * (detectable / found.value) ** 2) if found.value else None
    return PolicyDifference(
        difference=found,
        p_value=p_value,
        minimum_detectable_effect=detectable,
        prompts_to_settle=settle,
        verdict=tested(found.value, p_value),
    )


def adjusted(
    found: Mapping[Name, PolicyDifference],
) -> dict[Name, PolicyDifference]:
    """The same differences with `p_holm`, which counts them all, and which concludes."""
    p_values = holm({str(index): one.p_value for index, one in enumerate(found.values())})
    return {
        name: one.model_copy(
            update={
                "p_holm": p_values[str(index)],
                "verdict": tested(one.difference.value, p_values[str(index)]),
            }
        )
        for index, (name, one) in enumerate(found.items())
    }


def policy_differences(
    first: Mapping[str, float], others: Mapping[str, Mapping[str, float]]
) -> dict[str, PolicyDifference]:
    """One policy against several others, by name; an other without a common prompt is left out."""
    found = {name: policy_difference(first, scores) for name, scores in others.items()}
    return adjusted({name: one for name, one in found.items() if one is not None})


def sign_flip_p(differences: Sequence[float], *, flips: int = FLIPS, seed: int = 0) -> float:
    """Two-sided p that differences are symmetric about 0: how often random signs give as much.

    (1 + flips whose |sum| reaches the one seen) / (1 + flips) (E. Edgington, Randomization Tests;
    the 1 is the assignment seen, so p is never 0). Units must be independent: one per prompt.
    """
    values = np.asarray([d for d in differences if d], dtype=np.float64)
    seen = abs(math.fsum(values)) * (1 - 1e-12)
    generator = np.random.default_rng(seed)
    as_much = 0
    for start in range(0, flips, _FLIPS_AT_ONCE):
        size = (min(_FLIPS_AT_ONCE, flips - start), len(values))
        signs = generator.integers(0, 2, size=size, dtype=np.int8) * 2 - 1
        as_much += int((np.abs(signs @ values) >= seen).sum())
    return (1 + as_much) / (1 + flips)


def benjamini_hochberg(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values, by name: among those at most q a share q is expected to be wrong.

    (Y. Benjamini and Y. Hochberg 1995.) The k-th smallest of m is multiplied by m / k, and is never
    above that of a larger one.
    """
    adjusted: dict[str, float] = {}
    least = 1.0
    ordered = sorted(p_values, key=lambda key: p_values[key], reverse=True)
    for rank, name in zip(range(len(ordered), 0, -1), ordered, strict=True):
        least = min(least, p_values[name] * len(ordered) / rank)
        adjusted[name] = least
    return {name: adjusted[name] for name in p_values}


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values, by name: the error rate over all of them together is held.

    (S. Holm 1979.) The k-th smallest of m is multiplied by m - k + 1, never below a smaller one's,
    never above 1.
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}
