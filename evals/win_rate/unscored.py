"""Verdicts that failed: where they are many, or hit one kind of comparison more than another."""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from evals.judges.ratings.charging import is_pointwise
from evals.win_rate.detectors import IMBALANCE_Z
from evals.win_rate.win_rate import VerdictRow
from schemas.results.win_rates import Finding

MANY = 0.05
"""From this share of comparisons without a score on, what is missing may be what matters."""


def unscored_verdicts(
    verdicts: Sequence[VerdictRow], lengths: Mapping[str, tuple[int, int]]
) -> Finding | None:
    """Comparisons without a score: `MANY` of all, or unlike in number between kinds.

    Kinds are the orders shown, the side that is longer, and the longer and shorter half of the
    comparisons; unlike where |z| of two shares' difference reaches `IMBALANCE_Z`.

    Args:
        verdicts: of one judge.
        lengths: comparison_id -> characters of the policy's text, of the baseline's.
    """
    failed: dict[str, bool] = defaultdict(bool)
    for row in verdicts:
        failed[row["comparison_id"]] |= row["verdict"] is None
    n, missing = len(failed), sum(failed.values())
    if not missing:
        return None
    unlike = {
        name: shares
        for name, shares in {
            "order": _by_order(verdicts),
            "longer side": _by_side(failed, lengths),
            "length": _by_length(failed, lengths),
        }.items()
        if _apart(shares)
    }
    if missing < MANY * n and not unlike:
        return None
    words = [f"{missing:,} of {n:,} comparisons have no score"]
    words += [
        f"unlike by {name}: {', '.join(f'{kind} {f} of {m}' for kind, (f, m) in shares.items())}"
        for name, shares in unlike.items()
    ]
    numbers = {"n": n, "count": missing, "share": missing / n, "unlike": unlike}
    return Finding(name="unscored_verdicts", detail="; ".join(words), numbers=numbers)


Shares = dict[str, tuple[int, int]]
"""Kind -> failures, all."""


def _by_order(verdicts: Sequence[VerdictRow]) -> Shares:
    return _counted(
        [(row["order"], row["verdict"] is None) for row in verdicts if not is_pointwise(row)]
    )


def _by_side(failed: Mapping[str, bool], lengths: Mapping[str, tuple[int, int]]) -> Shares:
    known = [(lengths[key], bad) for key, bad in failed.items() if key in lengths]
    return _counted([("policy" if a > b else "baseline", bad) for (a, b), bad in known if a != b])


def _by_length(failed: Mapping[str, bool], lengths: Mapping[str, tuple[int, int]]) -> Shares:
    known = [(sum(lengths[key]), bad) for key, bad in failed.items() if key in lengths]
    if not known:
        return {}
    middle = statistics.median(size for size, _ in known)
    return _counted([("long" if size > middle else "short", bad) for size, bad in known])


def _counted(found: Sequence[tuple[str, bool]]) -> Shares:
    counts: dict[str, list[bool]] = defaultdict(list)
    for kind, bad in found:
        counts[kind].append(bad)
    return {kind: (sum(counts[kind]), len(counts[kind])) for kind in sorted(counts)}


def _apart(shares: Shares) -> bool:
    """Whether two shares differ by more than chance explains (pooled two-proportion z)."""
    if len(shares) != 2:
        return False
    (a, n), (b, m) = shares.values()
    pooled = (a + b) / (n + m)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return error > 0 and abs(a / n - b / m) >= IMBALANCE_Z * error
