"""How a stage's directory comes to be: made aside, recorded last, renamed into place.

A partial folder with the same fingerprint is continued, any other is thrown away.
"""

import os
import shutil
from pathlib import Path

from schemas.ids import file_sha256
from schemas.manifest import MANIFEST_NAME, Manifest, OutputFile

PARTIAL_RECORD = ".fingerprint"


def open_partial(partial: Path, wanted: str) -> bool:
    """Keep a partial folder of the same fingerprint, replace any other; whether it was kept."""
    record = partial / PARTIAL_RECORD
    if record.exists() and record.read_text() == wanted:
        return True
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    record.write_text(wanted)
    return False


def outputs_of(directory: Path) -> dict[str, OutputFile]:
    """Size and hash of every file below a directory, by its path there."""
    return {
        str(path.relative_to(directory)): OutputFile(
            size_bytes=path.stat().st_size, sha256=file_sha256(path)
        )
        for path in sorted(directory.rglob("*"))
        if path.is_file()
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
