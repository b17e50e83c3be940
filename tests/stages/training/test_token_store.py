"""Tokens in a mapped file: what goes in comes out, by row, by split and by slice."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.training.data.rows.token_store import TokenItem, TokenTable, TokenView, write_tokens

PART = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=6)
ITEM = st.tuples(PART, PART, PART, st.sampled_from(["train", "test"]), st.none() | st.floats(0, 1))


def read(stored: Any) -> tuple[str, list[list[int]]]:
    return stored.key, [list(part) for part in stored.parts]


@given(batches=st.lists(st.lists(ITEM, max_size=4), max_size=4))
@settings(max_examples=60, deadline=None)
def test_items_come_back(batches: list[list[Any]], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("tokens") / "tokens.arrow"
    keys = iter(f"{(7 * i) % 101:03}" for i in range(101))
    items = [
        [TokenItem(next(keys), split, parts, {"margin": m}) for *parts, split, m in batch]
        for batch in batches
    ]
    write_tokens(path, items, parts=3, numbers=["margin"])
    table, flat = TokenTable(path), [item for batch in items for item in batch]
    assert [read(table[row]) for row in range(len(table))] == [
        (item.key, [list(part) for part in item.parts]) for item in flat
    ]
    assert [None if np.isnan(n) else n for n in table.numbers("margin")] == [
        item.numbers["margin"] for item in flat
    ]
    for split in ("train", "test"):
        view = TokenView(table, table.split(split), read)
        expected = sorted((item for item in flat if item.split == split), key=lambda i: i.key)
        assert [key for key, _ in view] == [item.key for item in expected]
        assert list(view[1:3]) == list(view)[1:3]
        tokens = sum(len(part) for item in expected for part in item.parts[1:])
        assert view.num_completion_tokens == tokens


def test_the_file_is_plain_arrow_and_items_are_views_of_it(tmp_path: Path) -> None:
    path = tmp_path / "tokens.arrow"
    write_tokens(path, [[TokenItem("a", "train", [[1, 2], [3]])]], parts=2)
    columns = pa.ipc.open_file(str(path)).read_all().to_pydict()
    assert columns == {
        "key": ["a"],
        "split": ["train"],
        "tokens": [[1, 2, 3]],
        "lengths": [[2, 1]],
    }
    prompt, completion = TokenTable(path)[0].parts
    assert isinstance(prompt, memoryview)
    assert prompt.readonly
    assert [*prompt, *completion] == [1, 2, 3]
