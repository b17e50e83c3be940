"""What to do next, by what stands in a row or a file that could not be read."""

from pathlib import Path

from schemas.errors import DataError

UNREADABLE = frozenset({"invalid_json", "invalid_utf8", "not_an_object", "blank_line"})
"""Reasons of rows that hold no JSON object: where all have one, the file is something else."""
_LFS = "version https://git-lfs"
_LFS_ADVICE = "it is a Git LFS pointer, not the data: run `git lfs pull` where it was cloned"
# How a file opens that is no JSON Lines, whatever it is called, and what to do about it. Bytes that
# are not UTF-8 are backslash-escaped, as in rejects.
_OPENINGS = (
    (_LFS, _LFS_ADVICE),
    ("PAR1", "it is Parquet: let its name end in .parquet, or set kind = 'parquet'"),
    ("\x1f\\x8b", "it is gzipped: let its name end in .gz"),
    ("(\\xb5/\\xfd", "it is packed by zstd: let its name end in .zst"),
    ("\\xff\\xfe", "it is UTF-16: write it again as UTF-8"),
    ("\\xfe\\xff", "it is UTF-16: write it again as UTF-8"),
    ("[", "it is no JSON array of objects: write one object a line, as `jq -c` does"),
    ("<", "it is a web page: fetch the file again"),
)
_SPREAD = "its JSON goes over several lines: write one row a line, as `jq -c .` does"
_MAGIC = {".gz": (b"\x1f\x8b", "gzipped"), ".zst": (b"(\xb5/\xfd", "packed by zstd")}


def advice(raw: str) -> str | None:
    """What to do about a file whose first row, as rejects have it, could not be read."""
    opening = raw.strip(" \t\r\n")
    if opening == "{":
        return _SPREAD
    return next((said for start, said in _OPENINGS if opening.startswith(start)), None)


def check_opening(path: Path, file: str, *, parquet: bool) -> None:
    """Refuse a file that cannot be what its name or kind says; `file` is its name in messages.

    Only what would stop every reader at once is refused: whatever can be read in part is read.

    Raises:
        DataError: packed or Parquet by name or kind, and something else by its first bytes.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(32)
    except OSError:  # the reader will say so
        return
    magic, packing = (b"PAR1", "Parquet") if parquet else _MAGIC.get(path.suffix, (b"", ""))
    if not start or start.startswith(magic):
        return
    if start.startswith(_LFS.encode()):
        raise DataError(f"{file}: {_LFS_ADVICE}")
    if start.lstrip()[:1] in (b"{", b"["):
        named = (
            "let its name end in .jsonl" if parquet else f"let its name not end in {path.suffix}"
        )
        raise DataError(f"{file}: is JSON and not {packing}; {named}")
