"""The shared cache: whole entries, checked when read, bounded, and lost without harm."""

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from schemas.errors import BackendError, MissingInputError
from schemas.files import SEAL
from schemas.stage import Runtime, StageContext
from stages.training.data.disk_cache import DiskCache, open_cache


class Text:
    """Writes an entry of one file, and counts how often it is asked to."""

    def __init__(self, text: str = "content") -> None:
        self.text, self.written = text, 0

    def write(self, folder: Path) -> None:
        self.written += 1
        (folder / "text.txt").write_text(self.text)

    @staticmethod
    def read(folder: Path) -> str:
        return (folder / "text.txt").read_text()


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path / "cache", 1_000_000)


def visible(cache: DiskCache) -> list[str]:
    return sorted(p.name for p in cache.root.rglob("*") if p.is_dir() and p.name != "kind")


def test_an_entry_is_written_once(cache: DiskCache) -> None:
    text = Text()
    assert [cache.get("kind/key", text.write, text.read) for _ in range(3)] == ["content"] * 3
    assert text.written == 1
    assert cache.get("kind/other", text.write, text.read) == "content"
    assert text.written == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "no seal", "broken seal"])
def test_a_damaged_entry_is_made_again(cache: DiskCache, damage: str) -> None:
    text = Text()
    cache.get("kind/key", text.write, text.read)
    folder = cache.root / "kind" / "key"
    match damage:
        case "cut":
            (folder / "text.txt").write_text("cont")
        case "changed":
            (folder / "text.txt").write_text("c0ntent")
        case "missing":
            (folder / "text.txt").unlink()
        case "no seal":
            (folder / SEAL).unlink()
        case "broken seal":
            (folder / SEAL).write_text('["text.txt"]')
    assert list(cache.entries("kind")) == []
    assert cache.get("kind/key", text.write, text.read) == "content"
    assert text.written == 2
    assert visible(cache) == ["key"]


def test_a_writer_that_fails_leaves_nothing(cache: DiskCache) -> None:
    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get("kind/key", fail, Text.read)
    assert visible(cache) == []


def test_a_full_disk_says_what_to_do(cache: DiskCache) -> None:
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(BackendError, match=r"No space left.*; make room there, or set runtime"):
        cache.get("kind/key", full, Text.read)

    def other(folder: Path) -> None:
        raise MissingInputError("some table: no such table")

    with pytest.raises(MissingInputError, match="some table"):
        cache.get("kind/key", other, Text.read)
    assert visible(cache) == []


def test_what_a_killed_writer_left_is_no_entry_and_goes_in_time(cache: DiskCache) -> None:
    left = cache.root / "kind" / ".key.host-1-abcd.prefline-writing"
    left.mkdir(parents=True)
    (left / "half").write_text("{}")
    assert list(cache.entries("kind")) == []
    cache.put("kind/key", Text().write)
    assert left.exists()  # it may be somebody's who is at work
    os.utime(left, (0, 0))
    cache.put("kind/other", Text().write)
    assert visible(cache) == ["key", "other"]


def test_the_least_recently_used_make_room(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 3_500)
    text = Text("x" * 900)
    for age, key in enumerate(("a", "b", "c")):
        cache.put(f"kind/{key}", text.write)
        os.utime(tmp_path / "kind" / key / SEAL, (1_000 + age, 1_000 + age))
    cache.get("kind/a", text.write, text.read)  # used just now
    cache.put("kind/d", text.write)
    assert visible(cache) == ["a", "c", "d"]
    DiskCache(tmp_path, 0).put("kind/e", text.write)
    assert visible(cache) == ["e"]  # the newest stays, however large


def test_a_file_that_is_open_outlives_its_entry(cache: DiskCache) -> None:
    text = Text()

    def opened(folder: Path) -> int:
        return os.open(folder / "text.txt", os.O_RDONLY)

    descriptor = cache.get("kind/key", text.write, opened)
    DiskCache(cache.root, 0).put("kind/other", text.write)
    assert not (cache.root / "kind" / "key").exists()
    assert os.read(descriptor, 100) == b"content"
    os.close(descriptor)


def _race(root: str, barrier: object, number: int) -> None:
    cache, text = DiskCache(Path(root), 10_000_000), Text("same " * 1000)
    barrier.wait()  # type: ignore[attr-defined]
    for key in range(40):
        assert cache.get(f"kind/{key}", text.write, text.read) == text.text
        cache.put(f"kind/{key}", text.write)


def test_processes_that_write_the_same_entries_at_once(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("spawn")
    barrier = processes.Barrier(3)
    workers = [processes.Process(target=_race, args=(str(tmp_path), barrier, i)) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(list(DiskCache(tmp_path, 1).entries("kind"))) == 40
    assert len(visible(DiskCache(tmp_path, 1))) == 40


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def root(runtime: Runtime) -> Path:
        return open_cache(StageContext({}, tmp_path / "run" / "train.partial", runtime)).root

    monkeypatch.setenv("PREFLINE_CACHE", str(tmp_path / "env"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert root(Runtime(cache_dir=str(tmp_path / "named"))) == tmp_path / "named"
    assert root(Runtime()) == tmp_path / "env"
    monkeypatch.delenv("PREFLINE_CACHE")
    assert root(Runtime()) == tmp_path / "xdg" / "prefline"
    (tmp_path / "file").write_text("")
    beside = tmp_path / "run" / ".cache"
    assert root(Runtime(cache_dir=str(tmp_path / "file" / "below"))) == beside
