"""Writing and removing: whole or not at all, and nothing that is left has anybody's name."""

import os
from pathlib import Path

import pytest

from schemas.files import (
    SEAL,
    clear_leftovers,
    first_line,
    is_leftover,
    is_sound,
    remove,
    write_json,
    write_text,
    writing_file,
    writing_folder,
)


class _Killed(Exception):
    pass


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")

    def dies_half_way() -> None:
        with writing_file(path) as temporary:
            temporary.write_text("half")
            assert is_leftover(temporary.name)
            raise _Killed

    with pytest.raises(_Killed):
        dies_half_way()
    assert (path.read_text(), names(path.parent)) == ("old", ["file.txt"])
    write_text(path, "new\n")
    assert path.read_bytes() == b"new\n"


def test_json_is_finite(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": 2}, indent=None, sort_keys=True)
    assert (tmp_path / "a.json").read_text() == '{"a": 2, "b": 1}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert (tmp_path / "a.json").read_text() == '{"a": 2, "b": 1}\n'


def test_a_folder_replaces_the_one_before_it(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with writing_folder(tmp_path / "folder") as folder:
            (folder / text).write_text(text)
    assert names(tmp_path / "folder") == ["second"]
    with pytest.raises(_Killed), writing_folder(tmp_path / "folder") as folder:
        raise _Killed
    assert (names(tmp_path), names(tmp_path / "folder")) == (["folder"], ["second"])


def test_where_two_write_the_same_folder_the_first_stays(tmp_path: Path) -> None:
    with writing_folder(tmp_path / "folder", shared=True) as slow:
        with writing_folder(tmp_path / "folder", shared=True) as quick:
            assert slow != quick
            (quick / "a").write_text("quick")
        (slow / "a").write_text("slow")
    assert (tmp_path / "folder" / "a").read_text() == "quick"
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("damage", ["changed", "cut", "missing", "added", "no seal", "empty seal"])
def test_a_seal_knows_what_was_written(tmp_path: Path, damage: str) -> None:
    with writing_folder(tmp_path / "folder", sealed=True) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("content")
    folder = tmp_path / "folder"
    assert is_sound(folder)
    file = folder / "inner" / "file"
    if damage == "changed":
        file.write_text("Content")
    elif damage == "cut":
        file.write_text("conten")
    elif damage == "missing":
        file.unlink()
    elif damage == "added":
        (folder / "other").touch()
    elif damage == "no seal":
        (folder / SEAL).unlink()
    else:
        (folder / SEAL).write_text("{}")
    assert not is_sound(folder)


def test_what_is_removed_loses_its_name_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "file").touch()

    def dying(*anything: object, **named: object) -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", dying)
        with pytest.raises(_Killed):
            remove(tmp_path / "folder")
    [left] = names(tmp_path)
    assert is_leftover(left)
    clear_leftovers(tmp_path)
    assert names(tmp_path) == []
    remove(tmp_path / "nothing")


def test_of_a_link_the_link_is_removed(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("thesis")
    os.symlink(tmp_path / "theirs", tmp_path / "link")
    remove(tmp_path / "link")
    assert names(tmp_path) == ["theirs"]
    assert names(tmp_path / "theirs") == ["thesis.txt"]


@pytest.mark.parametrize("name", ["run.json", "thesis.prefline-writing", ".thesis", "a.writing"])
def test_nothing_of_anybody_else_is_a_leftover(name: str) -> None:
    assert not is_leftover(name)


def test_the_first_line_of_an_error() -> None:
    assert first_line(ValueError("\n  one \ntwo")) == "one"
    assert first_line(ValueError("")) == "ValueError"
