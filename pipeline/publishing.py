"""How a stage's directory comes to be: made aside, recorded last, renamed into place.

A partial folder with the same fingerprint is continued, and so is one, or a finished stage, that
the stage can go on from; any other is thrown away.
"""

import os
import shutil
from pathlib import Path

from schemas.ids import file_sha256
from schemas.manifest import MANIFEST_NAME, Manifest, OutputFile
from schemas.stage import RESUME_FOLDER

PARTIAL_RECORD = ".fingerprint"
CONTINUATION_RECORD = ".continuation"


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
        if stale.exists():
            shutil.rmtree(stale)
    partial.mkdir(parents=True)
    _record(partial, wanted, continuation)
    return False


def reopen(directory: Path, partial: Path, wanted: str, continuation: str) -> None:
    """Make a partial folder of a finished stage, which stays as it is until the new one is done."""
    copying = _copying(partial)
    shutil.copytree(directory, copying)
    (copying / MANIFEST_NAME).unlink()
    _record(copying, wanted, continuation)
    shutil.rmtree(partial)
    os.rename(copying, partial)


def close_partial(partial: Path) -> None:
    """Remove what was only written down to continue it."""
    for name in (PARTIAL_RECORD, CONTINUATION_RECORD):
        (partial / name).unlink(missing_ok=True)


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
        if path.is_file() and RESUME_FOLDER not in path.relative_to(directory).parts
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
    """Write a small file, on the disk before this returns."""
    with path.open("w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())


def publish(partial: Path, directory: Path) -> None:
    """Put a finished folder in the stage's place; `finish_publishing` repairs a kill in here."""
    old = directory.with_name(directory.name + ".old")
    if old.exists():
        shutil.rmtree(old)
    if directory.exists():
        os.rename(directory, old)
    os.rename(partial, directory)
    if old.exists():
        shutil.rmtree(old)


def finish_publishing(directory: Path) -> None:
    """Complete a publish that was killed between its two renames."""
    partial = directory.with_name(directory.name + ".partial")
    if (partial / MANIFEST_NAME).exists():
        publish(partial, directory)
    old = directory.with_name(directory.name + ".old")
    if old.exists() and directory.exists():
        shutil.rmtree(old)
