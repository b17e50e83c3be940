"""How far several people who label the same things agree, beyond what chance would give."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations

Ratings = Sequence[Mapping[str, Hashable]]
"""Of each thing: annotator -> label."""


def krippendorff_alpha(units: Sequence[Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha of nominal labels; None where nothing was labelled twice, or one way.

    1 - (n - 1) D_o / D_e over the coincidences of labels within a unit, n their number
    (K. Krippendorff, Content Analysis, 2004, 11.3). Units of one label say nothing.
    """
    seen: Counter[Hashable] = Counter()
    differing = 0.0
    for labels in units:
        m = len(labels)
        if m < 2:
            continue
        counts = Counter(labels)
        seen.update(counts)
        differing += (m * m - sum(c * c for c in counts.values())) / (m - 1)
    n = sum(seen.values())
    expected = n * n - sum(c * c for c in seen.values())
    return 1 - (n - 1) * differing / expected if expected else None


def mean_kappa(ratings: Ratings) -> float | None:
    """Cohen's kappa of every two annotators, by the things both labelled; the weighted mean.

    None where no two have a thing in common, or all say the same always.
    """
    people = sorted({name for unit in ratings for name in unit})
    found: list[tuple[float, int]] = []
    for one, other in combinations(people, 2):
        both = [(unit[one], unit[other]) for unit in ratings if one in unit and other in unit]
        kappa = cohen_kappa(both)
        if kappa is not None:
            found.append((kappa, len(both)))
    total = sum(n for _, n in found)
    return sum(kappa * n for kappa, n in found) / total if total else None


def cohen_kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Cohen's kappa of two labels of each thing; None where chance alone agrees always."""
    n = len(pairs)
    if not n:
        return None
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    expected = sum(first[label] * second[label] for label in first) / (n * n)
    observed = sum(a == b for a, b in pairs) / n
    return (observed - expected) / (1 - expected) if expected < 1 else None
