"""Where the labels' tokens part."""

from collections.abc import Mapping, Sequence
from itertools import takewhile

from schemas.labels import Preference


def first_differences(
    spelled: Mapping[Preference, Sequence[int]],
) -> tuple[list[int], dict[Preference, int]] | None:
    """The tokens that all labels begin with, and the first one of each label after these.

    None where the first ones are not all different.
    """
    columns = zip(*spelled.values(), strict=False)
    shared = [column[0] for column in takewhile(lambda c: len(set(c)) == 1, columns)]
    firsts = {k: ids[len(shared)] for k, ids in spelled.items() if len(ids) > len(shared)}
    return (shared, firsts) if len(set(firsts.values())) == len(spelled) else None
