"""Runs of pairs against a sorted set of all of them."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.ingest.near_duplicates import pair_runs
from stages.ingest.near_duplicates.pair_runs import PairRuns
from stages.ingest.near_duplicates.scratch import Scratch

TEXTS = 23
RUN = st.lists(st.tuples(*[st.integers(0, TEXTS - 1)] * 2), max_size=12)


@pytest.mark.parametrize("at_once", [1, 5, 23, 100])
@given(runs=st.lists(RUN, min_size=1, max_size=5))
def test_pairs_come_once_and_in_order(at_once: int, runs: list[list[tuple[int, int]]]) -> None:
    numbers = [sorted({later << 32 | earlier for later, earlier in run}) for run in runs]
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(pair_runs, "_TEXTS", at_once)
        with Scratch(Path(folder) / "scratch") as scratch:
            kept = PairRuns(scratch.column("pairs", "u8"), TEXTS)
            for run in numbers:
                kept.append(np.array(run, np.uint64))
            parts = [part.tolist() for part in kept]
    assert [pair for part in parts for pair in part] == sorted(set().union(*numbers))
    for part in parts:
        assert len({(pair >> 32) // at_once for pair in part}) == 1
