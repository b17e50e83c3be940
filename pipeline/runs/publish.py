"""How a stage's directory comes to be: made aside, recorded last, renamed into place.

A partial folder with the same fingerprint is continued, and so is one, or a finished stage, that
the stage can go on from; any other is thrown away. A stage that has done its work says so in the
partial folder before anything it could go on from is removed: from then on it is only published.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import ConfigError, DataError
from schemas.files import (
    clear_leftovers,
    is_leftover,
    read_record,
    read_sealed_json,
    remove,
    sync,
    sync_tree,
    write_sealed_json,
    write_text,
)
from schemas.hashes import known_sha256
from schemas.manifest import MANIFEST_NAME, Manifest, OutputFile, read_manifest
from schemas.stage import RESUME_FOLDER, Content

PARTIAL_RECORD = ".fingerprint"
CONTINUATION_RECORD = ".continuation"
FINISHED_RECORD = ".finished"
# Notes and warnings so far, for the manifest of a run that was interrupted.
SAID_RECORD = ".said"
# Why the last attempt ended with an error.
FAILED_RECORD = ".failed"
# What is only written down to continue a partial folder: no output, and gone once it is published.
_RECORDS = (PARTIAL_RECORD, CONTINUATION_RECORD, FINISHED_RECORD, SAID_RECORD, FAILED_RECORD)
_NO_OUTPUTS = (MANIFEST_NAME, *_RECORDS)
_UNFINISHED = f"{RESUME_FOLDER}/unfinished"


class Finished(BaseModel):
    """What a stage has said when its work was done, and what of its folder is no output."""

    model_config = ConfigDict(defer_build=True)

    manifest: Manifest
    # Names in the folder itself: what a damaged record says leads nowhere else.
    discard: list[Annotated[str, Field(pattern=r"^[^/]+$")]]


def open_partial(
    partial: Path,
    wanted: str,
    continuation: str | None = None,
    taken_over: tuple[str, Sequence[Path]] | None = None,
) -> bool:
    """Keep a partial folder of the same fingerprint or continuation, replace any other.

    `taken_over` is the name of a folder that the new one begins with, where any of the folders
    given after it has one: the first that has. Returns whether the partial folder was kept.
    """
    if _said(partial / PARTIAL_RECORD) == wanted:
        clear_leftovers(partial)
        return True
    if continuation and _said(partial / CONTINUATION_RECORD) == continuation:
        clear_leftovers(partial)
        (partial / FINISHED_RECORD).unlink(missing_ok=True)
        write_text(partial / PARTIAL_RECORD, wanted)
        return True
    remove_ours(_copying(partial))
    _new(partial, wanted, continuation, taken_over)
    return False


def reopen(directory: Path, partial: Path, wanted: str, continuation: str | None) -> None:
    """Make a partial folder of a finished stage, which stays as it is until the new one is done."""
    copying, theirs = _copying(partial), set(files_of_others(directory))

    def not_ours(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(folder) / name in theirs]

    _new(copying, wanted, continuation)
    shutil.copytree(directory, copying, dirs_exist_ok=True, ignore=not_ours)
    (copying / MANIFEST_NAME).unlink()
    if (copying / _UNFINISHED).is_dir():
        for path in list((copying / _UNFINISHED).iterdir()):
            os.rename(path, copying / path.name)
        (copying / _UNFINISHED).rmdir()
        with suppress(OSError):  # it may hold more
            (copying / RESUME_FOLDER).rmdir()
    remove_ours(partial)
    os.rename(copying, partial)


def _copying(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.copying")


def _new(
    folder: Path,
    wanted: str,
    continuation: str | None,
    taken_over: tuple[str, Sequence[Path]] | None = None,
) -> None:
    """A new folder in place of any of ours, which says from its first moment that it is ours."""
    making = folder.with_name(f".{folder.name}.prefline-writing")
    remove(making)
    making.mkdir(parents=True)
    (making / PARTIAL_RECORD).write_text(wanted)
    if continuation:
        (making / CONTINUATION_RECORD).write_text(continuation)
    name, places = taken_over or ("", ())
    for source in [place / name for place in places if (place / name).is_dir()][:1]:
        shutil.copytree(source, making / name)
    sync_tree(making)
    remove_ours(folder)
    os.rename(making, folder)


def _said(record: Path) -> str | None:
    """What a record says; None where it is not there, or cannot be read."""
    try:
        return read_record(record).decode()
    except (OSError, UnicodeDecodeError):
        return None


def record_finished(partial: Path, manifest: Manifest, discard: Sequence[Path]) -> Finished:
    """Put on record that a stage's work is done: all its files are on the disk before."""
    sync_tree(partial)
    names = [str(path.relative_to(partial)) for path in discard]
    finished = Finished(manifest=manifest, discard=names)
    write_sealed_json(partial / FINISHED_RECORD, finished.model_dump(mode="json"))
    return finished


def read_finished(partial: Path, fingerprint: str) -> Finished | None:
    """The record that a stage of this fingerprint has done its work, if it is as it was written."""
    try:
        found = Finished.model_validate(read_sealed_json(partial / FINISHED_RECORD))
    except (OSError, ValueError):
        return None
    return found if found.manifest.fingerprint == fingerprint else None


def complete(partial: Path, finished: Finished, content: Content) -> Manifest:
    """Remove what is no output, and write the manifest with the hashes of all that is.

    Where something is missing, what the stage could go on from is kept: it is tried again.
    """
    for name in finished.discard:
        if not finished.manifest.missing:
            remove(partial / name)
        elif (partial / name).exists():
            (partial / _UNFINISHED).mkdir(parents=True, exist_ok=True)
            remove(partial / _UNFINISHED / name)
            os.rename(partial / name, partial / _UNFINISHED / name)
    clear_leftovers(partial)
    manifest = finished.manifest.model_copy(update={"outputs": outputs_of(partial, content)})
    write_text(partial / MANIFEST_NAME, manifest.sealed_json())
    return manifest


def outputs_of(directory: Path, content: Content) -> dict[str, OutputFile]:
    """Size and hash of every output below a directory, by its path there."""
    return {
        str(path.relative_to(directory)): OutputFile(
            size_bytes=path.stat().st_size, sha256=known_sha256(path), content=content(path)
        )
        for path in sorted(directory.rglob("*"))
        if path.is_file()
        and RESUME_FOLDER not in path.relative_to(directory).parts
        and str(path.relative_to(directory)) not in _NO_OUTPUTS
    }


def damage_of(directory: Path, manifest: Manifest) -> str:
    """What is wrong with a finished stage's files; empty where nothing is.

    Every file is compared with its hash, which is computed anew only where the file has changed.
    """
    for name, output in manifest.outputs.items():
        path = directory / name
        if not path.is_file():
            return f"{name} is missing"
        size = path.stat().st_size
        if size != output.size_bytes:
            return f"{name} has {size} bytes instead of {output.size_bytes}"
        if known_sha256(path) != output.sha256:
            return f"{name} has changed since it was written"
    return ""


def is_record_half_written(name: str) -> bool:
    """Whether a file name is that of a record whose writing was killed."""
    return is_leftover(name) or name.endswith(".json.writing")


def publish(partial: Path, directory: Path) -> None:
    """Put a finished folder in the stage's place; `finish_publishing` repairs a kill in here.

    Raises:
        ConfigError: what is in the way is not ours.
    """
    for name in _RECORDS:
        (partial / name).unlink(missing_ok=True)
    old = _old(directory)
    remove_ours(old)
    if os.path.lexists(directory):
        refuse_theirs(directory)
        os.rename(directory, old)
    os.rename(partial, directory)
    sync(directory.parent)
    _carry_over(old, directory)
    remove_ours(old)


def _carry_over(old: Path, directory: Path) -> None:
    """Take files that somebody has put into a finished folder along to the one in its place."""
    for path in files_of_others(old):
        place = directory / path.relative_to(old)
        if not os.path.lexists(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            os.rename(path, place)


def files_of_others(directory: Path) -> list[Path]:
    """What lies in a finished folder and is no output of its stage."""
    try:
        manifest = None if directory.is_symlink() else read_manifest(directory)
    except DataError:
        manifest = None
    if manifest is None:
        return []
    return [
        path
        for path in sorted(directory.rglob("*"))
        if (path.is_file() or path.is_symlink())
        and (name := path.relative_to(directory)).parts[0] != RESUME_FOLDER
        and str(name) not in manifest.outputs
        and str(name) not in _NO_OUTPUTS
        and not any(is_leftover(part) for part in name.parts)
    ]


def finish_publishing(directory: Path) -> str:
    """Complete a publish that was killed between its two renames.

    Returns:
        What is worth knowing: that a folder was damaged, and is set aside. Mostly nothing.

    Raises:
        ConfigError: there is something of someone else's where a stage is made or published.
    """
    partial = directory.with_name(directory.name + ".partial")
    for place in (directory, _old(directory), partial, _copying(partial)):
        refuse_theirs(place)
    _clear_beside(directory)
    said = ""
    if (partial / MANIFEST_NAME).exists():
        damage = _damage_before_publishing(partial)
        if damage:
            remove_ours(partial)
            said = f"what an interrupted run left in {partial.name} is of no use: {damage}"
        else:
            publish(partial, directory)
    if directory.exists():
        _carry_over(_old(directory), directory)
        remove_ours(_old(directory))
    elif _old(directory).exists():  # nothing took its place
        os.rename(_old(directory), directory)
    return said


def _clear_beside(directory: Path) -> None:
    """Delete what a kill has left of folders of this stage that were being made or removed."""
    if directory.parent.is_dir():
        for path in directory.parent.iterdir():
            if is_leftover(path.name) and path.name.startswith(f".{directory.name}."):
                remove(path)


def _damage_before_publishing(partial: Path) -> str:
    try:
        manifest = read_manifest(partial)
    except DataError:
        return f"its {MANIFEST_NAME} cannot be read"
    return damage_of(partial, manifest) if manifest else ""


def _old(directory: Path) -> Path:
    return directory.with_name(directory.name + ".old")


def refuse_theirs(folder: Path) -> None:
    """Raises ConfigError where a folder holds files and none of our records."""
    records = (MANIFEST_NAME, PARTIAL_RECORD)
    if any((folder / name).exists() for name in records) or not os.path.lexists(folder):
        return
    held = None if not folder.is_dir() else next(folder.iterdir(), None)
    if folder.is_dir() and held is None:
        return
    raise ConfigError(
        f"{folder}: prefline has not made it{f' (it holds {held.name})' if held else ''}, and will "
        "not replace it; move it elsewhere, or choose another --run-dir"
    )


def remove_ours(folder: Path) -> None:
    """Delete a folder that our record says we made; of a link to one, the link alone.

    Raises:
        ConfigError: it has no record of ours.
    """
    if not os.path.lexists(folder):
        return
    if folder.is_symlink():
        folder.unlink()
        return
    refuse_theirs(folder)
    remove(folder)
