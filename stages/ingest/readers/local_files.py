"""The local files that a path of a recipe stands for."""

import glob
from pathlib import Path

from schemas.errors import MissingInputError

JSON_LINES = tuple(
    ending + packing for ending in (".jsonl", ".json", ".ndjson") for packing in ("", ".gz", ".zst")
)
SUFFIXES = (*JSON_LINES, ".parquet")


def local_files(path: str, suffixes: tuple[str, ...] = SUFFIXES) -> list[tuple[str, Path]]:
    """The files a path stands for, each with its name in the tables, sorted by name.

    Of a folder, all below it; hidden ones are passed over, as patterns do.

    Raises:
        MissingInputError: there is no such file, an empty folder, or a pattern without a match.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return [(path, place)]
    if place.is_dir():
        inside = [p.relative_to(place) for p in place.rglob("*") if p.is_file()]
        found = sorted(p for p in inside if p.name.endswith(suffixes) and not _is_hidden(p))
        labelled = [(f"{path.rstrip('/')}/{p.as_posix()}", place / p) for p in found]
    else:
        matches = sorted(glob.glob(str(place), recursive=True))
        labelled = [(m, Path(m)) for m in matches if Path(m).is_file()]
    if not labelled:
        named = f"no file in this folder ends in {', '.join(suffixes)}"
        what = named if place.is_dir() else "no such file"
        raise MissingInputError(
            f"{path}: {what} (looked from {Path.cwd()}); set the path of the data set in [ingest]"
        )
    return labelled


def _is_hidden(path: Path) -> bool:
    """Caches, checkpoints and versions that tools keep beside data begin with a dot."""
    return any(part.startswith(".") for part in path.parts)
