"""Hashes are computed once as long as a file stays as it is, and never after it has changed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas import hashes
from schemas.hashes import MEMORY, known_sha256
from schemas.ids import file_sha256


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The files that are read to the end, one after the other."""
    found: list[Path] = []

    def watched(path: Path) -> str:
        found.append(path)
        return file_sha256(path)

    monkeypatch.setenv("PREFLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "file_sha256", watched)
    monkeypatch.setattr(hashes, "_YOUNG_NS", 0)
    hashes._memory.cache_clear()
    yield found
    hashes._memory.cache_clear()


def test_a_second_look_reads_nothing_in_this_process_or_another(
    tmp_path: Path, read: list[Path]
) -> None:
    path = tmp_path / "file"
    path.write_text("content")
    assert known_sha256(path) == known_sha256(path) == file_sha256(path)
    hashes._memory.cache_clear()
    assert known_sha256(path) == file_sha256(path)
    (tmp_path / "moved").mkdir()
    assert read == [path]


def test_a_change_is_seen_though_size_and_time_are_as_they_were(
    tmp_path: Path, read: list[Path]
) -> None:
    path = tmp_path / "file"
    path.write_text("content")
    before = path.stat()
    known_sha256(path)
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_text("Content")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert known_sha256(path) == file_sha256(path)
    assert len(read) == 2


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"nonsense\n", b"1 2 3 4 5 abc 00000000\n"])
def test_a_damaged_memory_costs_a_reading(tmp_path: Path, read: list[Path], damage: bytes) -> None:
    path = tmp_path / "file"
    path.write_text("content")
    known_sha256(path)
    memory = tmp_path / "cache" / MEMORY
    memory.write_bytes(damage + memory.read_bytes()[:-20])
    hashes._memory.cache_clear()
    assert known_sha256(path) == file_sha256(path)
    assert len(read) == 2


def test_what_is_young_is_not_remembered(
    tmp_path: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "_YOUNG_NS", 10**18)
    path = tmp_path / "file"
    path.write_text("content")
    known_sha256(path)
    known_sha256(path)
    assert len(read) == 2
