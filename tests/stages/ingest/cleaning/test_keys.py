"""Keys sort as ids do, and are found where they stand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.ingest.near_duplicates.keys import NO_KEYS, id_keys, places_among

# Many zeros: the last bytes of a key must count, whatever they are.
IDS = st.text("00001f", min_size=32, max_size=32)


@given(st.lists(IDS, unique=True, max_size=12), st.lists(IDS, max_size=12))
def test_places_are_those_in_the_list_of_ids(known: list[str], asked: list[str]) -> None:
    known = sorted(known)
    asked += known[::2]
    keys = id_keys(known)
    assert keys.tobytes().hex() == "".join(known)
    assert (np.sort(keys) == keys).all()
    expected = [known.index(one) if one in known else -1 for one in asked]
    assert places_among(keys, id_keys(asked)).tolist() == expected


def test_nothing_stands_among_nothing() -> None:
    assert places_among(NO_KEYS, id_keys(["0" * 32])).tolist() == [-1]
    assert places_among(NO_KEYS, NO_KEYS).tolist() == []
