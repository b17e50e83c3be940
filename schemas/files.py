"""One way to write and to remove: whole or not at all, under names that are nobody else's.

What is being written or removed lies beside its place under a hidden name of ours. A kill leaves it
there, where nothing reads it; `clear_leftovers` takes it away. What is said to be done is on the
disk: files and the folders that name them are synced before their names appear.
"""

import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

from schemas.errors import ConfigError
from schemas.ids import file_sha256
from schemas.patterns import late

WRITING = ".prefline-writing"
REMOVED = ".prefline-removed"
SEAL = "seal.json"
# Leaves room for endings: file systems take 255 bytes.
_LONGEST_NAME = 150
# What earlier versions left beside files that they were writing.
_EARLIER = (".writing",)
_PROTOCOL = late(r"[a-z][a-z0-9+.-]+:")


def first_line(error: BaseException | str) -> str:
    """The first line of what an error says that is not empty; the error's name where it is mute."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines:
        return lines[0]
    return "no reason given" if isinstance(error, str) else type(error).__name__


def is_plain_name(name: str) -> bool:
    """Whether a name from data or a recipe can be one of a file: it leads to no other folder."""
    return (
        0 < len(name.encode("utf-8", "replace")) <= _LONGEST_NAME
        and not name.startswith(".")
        and not any(sign in "/\\" or ord(sign) < 32 or ord(sign) == 127 for sign in name)
    )


def is_leftover(name: str) -> bool:
    """Whether a name is one that only an interrupted writing or removing of ours leaves."""
    return name.startswith(".") and name.endswith((WRITING, REMOVED))


def refuse_remote(path: Path) -> None:
    """Raises ConfigError where a path was an address: `s3://b/x` is no folder called `s3:`."""
    first = path.parts[0] if path.parts else ""
    if _PROTOCOL.fullmatch(first) and not Path(first).exists():
        raise ConfigError(
            f"{first}//{'/'.join(path.parts[1:])}: this is written to a folder here; name one, and "
            "copy it to the store afterwards (`prefline export --out` and `push --to` go there)"
        )


@contextmanager
def writing_file(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Where to write a file, which gets its name when the block ends without an error.

    `shared` is for places where several processes may write the same file at once.
    """
    temporary = _aside(path, WRITING, shared)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all; it is on the disk when this returns."""
    with writing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any, *, indent: int | None = 2, sort_keys: bool = False) -> None:
    """Write JSON whole or not at all; a number that is not finite is a bug and raises."""
    text = json.dumps(value, indent=indent, sort_keys=sort_keys, allow_nan=False)
    write_text(path, text + "\n")


def read_record(path: Path) -> bytes:
    """What a small file of ours holds.

    Raises:
        OSError: it cannot be read, or is a pipe or device, which would be waited for.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, no file", str(path))
        return file.read()


def write_sealed_json(path: Path, value: Any) -> None:
    """Write JSON with its own hash in it, whole or not at all; numbers need not be finite."""
    write_text(path, json.dumps({"value": value, "sha256": _digest(value)}) + "\n")


def read_sealed_json(path: Path) -> Any:
    """What `write_sealed_json` wrote.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not as it was written.
    """
    said = json.loads(read_record(path))
    if not isinstance(said, dict) or said.get("sha256") != _digest(said.get("value")):
        raise ValueError("not as it was written")
    return said["value"]


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@contextmanager
def writing_folder(final: Path, *, sealed: bool = False, shared: bool = False) -> Iterator[Path]:
    """A new folder to fill, which replaces `final` when the block ends without an error.

    `sealed` adds seal.json, by which `is_sound` knows later that every file is as it was written.
    Where processes share a place, the first to finish stays: they have written the same.
    """
    temporary = _aside(final, WRITING, shared)
    _delete(temporary)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if sealed:
            _seal(temporary)
        sync_tree(temporary)
        _put(temporary, final, shared)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(final.parent)


def _put(temporary: Path, final: Path, shared: bool) -> None:
    if shared:
        try:
            os.rename(temporary, final)
        except OSError:
            if not final.is_dir():
                raise
            shutil.rmtree(temporary)
        return
    remove(final)
    os.rename(temporary, final)


def _seal(folder: Path) -> None:
    seal = {
        str(path.relative_to(folder)): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / SEAL).write_text(json.dumps(seal), encoding="utf-8")


def is_sound(folder: Path) -> bool:
    """Whether a sealed folder holds exactly the files that it was sealed with."""
    try:
        seal = json.loads(read_record(folder / SEAL))
        files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
        return (
            bool(seal)
            and files - {SEAL} == set(seal)
            and all(file_sha256(folder / name) == digest for name, digest in seal.items())
        )
    except (OSError, ValueError, TypeError, AttributeError):
        return False


def seal_of(path: Path) -> Path:
    """Where `seal_file` puts the hash of a file."""
    return path.with_name(f"{path.name}.sha256")


def seal_file(path: Path) -> None:
    """Put the SHA-256 of a finished file beside it."""
    write_text(seal_of(path), file_sha256(path))


def is_sealed(path: Path) -> bool:
    """Whether a file is there as it was sealed."""
    seal = seal_of(path)
    if not (path.is_file() and seal.is_file()):
        return False
    return read_record(seal) == file_sha256(path).encode()


def remove(path: Path) -> None:
    """Remove a file or folder of ours: its name goes at once, whatever a kill leaves of it."""
    if not os.path.lexists(path):
        return
    gone = _aside(path, REMOVED, shared=True)
    os.rename(path, gone)
    _delete(gone)


def clear_leftovers(folder: Path) -> None:
    """Delete what interrupted writings and removals of ours have left below a folder of ours."""
    for where, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            if is_leftover(name) or name.endswith(_EARLIER):
                _delete(Path(where) / name)
        folders[:] = [name for name in folders if (Path(where) / name).is_dir()]


def sync_tree(folder: Path) -> None:
    """Bring a folder with all its files onto the disk."""
    for where, _, files in os.walk(folder):
        for name in files:
            sync(Path(where) / name)
        sync(Path(where))


def sync(path: Path) -> None:
    """Bring a file, or the names that a folder holds, onto the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # a file that may not be read, or a link that leads nowhere: nothing of ours
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _aside(path: Path, suffix: str, shared: bool) -> Path:
    refuse_remote(path)
    own = f".{os.uname().nodename}-{os.getpid()}-{token_hex(4)}" if shared else ""
    return path.with_name(f".{path.name}{own}{suffix}")


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
