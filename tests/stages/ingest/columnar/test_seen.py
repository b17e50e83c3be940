"""Keys seen before are found again, in whatever pieces they come."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.ingest.frames.seen import Seen


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=8), max_size=12))
def test_it_remembers_what_a_dictionary_would(pieces: list[list[tuple[int, int]]]) -> None:
    """Few values, so that halves of keys are shared and keys come again in the same piece."""
    seen, wanted, count = Seen(np.int64), dict[tuple[int, int], int](), 0
    for piece in pieces:
        keys = np.array(piece, np.uint64).reshape(-1, 2)
        marks = np.arange(count, count + len(piece))
        found = seen.add(keys, marks)
        for key, mark, told in zip(piece, marks.tolist(), found.tolist(), strict=True):
            assert told == wanted.get(key, -1)
            wanted.setdefault(key, mark)
        count += len(piece)
    keys = np.array([(h, low) for h in range(5) for low in range(7)], np.uint64)
    assert seen.has(keys).tolist() == [tuple(map(int, key)) in wanted for key in keys]
