"""How a stage's directory comes to be: made aside, recorded last, renamed into place.

A partial folder with the same fingerprint is continued, and so is one, or a finished stage, that
the stage can go on from; any other is thrown away.
"""

import os
import shutil
from pathlib import Path

from schemas.errors import ConfigError
from schemas.ids import file_sha256
from schemas.manifest import MANIFEST_NAME, Manifest, OutputFile
from schemas.stage import RESUME_FOLDER

PARTIAL_RECORD = ".fingerprint"
CONTINUATION_RECORD = ".continuation"
# What is only written down to continue a partial folder: no output, and gone once it is published.
_NO_OUTPUTS = (MANIFEST_NAME, PARTIAL_RECORD, CONTINUATION_RECORD)
_WRITING = ".writing"


def open_partial(partial: Path, wanted: str, continuation: str | None = None) -> bool:
    """Keep a partial folder of the same fingerprint or continuation, replace any other.

    Returns whether it was kept.
    """
    if _said(partial / PARTIAL_RECORD) == wanted:
        return True
    if continuation and _said(partial / CONTINUATION_RECORD) == continuation:
        (partial / PARTIAL_RECORD).write_text(wanted)
        return True
    for stale in (partial, _copying(partial)):
        remove_ours(stale)
    partial.mkdir(parents=True)
    _record(partial, wanted, continuation)
    return False


def reopen(directory: Path, partial: Path, wanted: str, continuation: str) -> None:
    """Make a partial folder of a finished stage, which stays as it is until the new one is done."""
    copying = _copying(partial)
    copying.mkdir()
    _record(copying, wanted, continuation)
    shutil.copytree(directory, copying, dirs_exist_ok=True)
    (copying / MANIFEST_NAME).unlink()
    remove_ours(partial)
    os.rename(copying, partial)


def _copying(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.copying")


def _record(partial: Path, wanted: str, continuation: str | None) -> None:
    (partial / PARTIAL_RECORD).write_text(wanted)
    if continuation:
        (partial / CONTINUATION_RECORD).write_text(continuation)


def _said(record: Path) -> str | None:
    return record.read_text() if record.exists() else None


def outputs_of(directory: Path) -> dict[str, OutputFile]:
    """Size and hash of every output below a directory, by its path there."""
    return {
        str(path.relative_to(directory)): OutputFile(
            size_bytes=path.stat().st_size, sha256=file_sha256(path)
        )
        for path in sorted(directory.rglob("*"))
        if path.is_file()
        and RESUME_FOLDER not in path.relative_to(directory).parts
        and str(path.relative_to(directory)) not in _NO_OUTPUTS
    }


def damage_of(directory: Path, manifest: Manifest) -> str:
    """What is wrong with a finished stage's files; empty where nothing is."""
    for name, output in manifest.outputs.items():
        path = directory / name
        if not path.exists():
            return f"{name} is missing"
        if path.stat().st_size != output.size_bytes:
            return f"{name} has {path.stat().st_size} bytes instead of {output.size_bytes}"
    return ""


def write_synced(path: Path, text: str) -> None:
    """Write a small file, whole or not at all, on the disk before this returns."""
    writing = path.with_name(path.name + _WRITING)
    with writing.open("w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(writing, path)


def is_record_half_written(name: str) -> bool:
    """Whether a file name is that of a record whose writing was killed."""
    return name.endswith(f".json{_WRITING}")


def publish(partial: Path, directory: Path) -> None:
    """Put a finished folder in the stage's place; `finish_publishing` repairs a kill in here.

    Raises:
        ConfigError: what is in the way is not ours.
    """
    for name in (PARTIAL_RECORD, CONTINUATION_RECORD):
        (partial / name).unlink(missing_ok=True)
    old = _old(directory)
    remove_ours(old)
    if directory.exists():
        refuse_theirs(directory)
        os.rename(directory, old)
    os.rename(partial, directory)
    remove_ours(old)


def finish_publishing(directory: Path) -> None:
    """Complete a publish that was killed between its two renames.

    Raises:
        ConfigError: there is something of someone else's where a stage is made or published.
    """
    partial = directory.with_name(directory.name + ".partial")
    for place in (directory, _old(directory), partial, _copying(partial)):
        refuse_theirs(place)
    if (partial / MANIFEST_NAME).exists():
        publish(partial, directory)
    if directory.exists():
        remove_ours(_old(directory))


def _old(directory: Path) -> Path:
    return directory.with_name(directory.name + ".old")


def refuse_theirs(folder: Path) -> None:
    """Raises ConfigError where a folder holds files and none of our records."""
    records = (MANIFEST_NAME, PARTIAL_RECORD)
    if any((folder / name).exists() for name in records) or not folder.exists():
        return
    held = None if not folder.is_dir() else next(folder.iterdir(), None)
    if folder.is_dir() and held is None:
        return
    raise ConfigError(
        f"{folder}: prefline has not made it{f' (it holds {held.name})' if held else ''}, and will "
        "not replace it; move it elsewhere, or choose another --run-dir"
    )


def remove_ours(folder: Path) -> None:
    """Delete a folder that our record says we made, the record last: a kill leaves it ours.

    Raises:
        ConfigError: it has no record of ours.
    """
    if not folder.exists():
        return
    refuse_theirs(folder)
    records = [folder / MANIFEST_NAME, folder / PARTIAL_RECORD]
    for path in folder.iterdir():
        if path in records:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.rmtree(folder)
