"""Columns on disk against arrays in memory."""

from io import FileIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.ingest.near_duplicates import scratch as module
from stages.ingest.near_duplicates.scratch import Column, Scratch


@given(st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=9), max_size=9), st.data())
def test_a_column_is_the_array_of_all_that_was_appended(
    parts: list[list[int]], data: st.DataObject
) -> None:
    whole = np.array([value for part in parts for value in part], np.uint32)
    places = st.integers(0, len(whole))
    spans = data.draw(st.lists(st.tuples(places, places).map(sorted), max_size=5))
    begins, ends = np.array(spans, np.int64).reshape(-1, 2).T
    with TemporaryDirectory() as folder, Scratch(Path(folder) / "scratch") as scratch:
        column = scratch.column("numbers", "u4")
        for part in parts:
            column.append(np.array(part, np.uint32))
        assert len(column) == len(whole)
        assert column.whole().tolist() == whole.tolist()
        expected = [value for begin, end in spans for value in whole[begin:end].tolist()]
        assert column.spans(begins, ends).tolist() == expected


def test_blocks_are_parts_of_the_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 4)
    with Scratch(tmp_path / "scratch") as scratch:
        column = scratch.column("keys", "S2")
        column.append(np.array([b"ab", b"c", b"", b"d\0", b"\0e"]))
        blocks = [(first, block.tolist()) for first, block in column.blocks()]
        assert blocks == [(0, [b"ab", b"c", b"", b"d"]), (4, [b"\0e"])]
        assert len(column.whole()) == 5


def test_what_a_killed_run_left_is_gone_and_so_is_the_folder_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    (folder / "old").write_bytes(b"left")
    with Scratch(folder) as scratch:
        scratch.column("new", "u8")
        assert [path.name for path in folder.iterdir()] == ["new"]
    assert not folder.exists()


class Dribble(FileIO):
    """A file that takes three bytes at a time, as files may when a disk is nearly full."""

    def write(self, data: Any) -> int:
        return super().write(bytes(data[:3]))


def test_what_is_written_in_part_is_written_to_the_end(tmp_path: Path) -> None:
    with Dribble(tmp_path / "file", "w+") as file:
        column = Column(file, "u4")
        column.append(np.arange(5))
        column.append(np.arange(2))
        assert column.whole().tolist() == [0, 1, 2, 3, 4, 0, 1]
