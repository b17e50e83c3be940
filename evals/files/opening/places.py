"""The local files that a path of a recipe stands for."""

import glob
from pathlib import Path

from schemas.errors import MissingInputError

PACKED = (".gz", ".zst")
_ENDS = ("", *PACKED)
JSON_LINES = tuple(end + packed for end in (".jsonl", ".json", ".ndjson") for packed in _ENDS)
CSV = tuple(end + packed for end in (".csv", ".tsv") for packed in _ENDS)
ARROW = (".arrow", ".feather")
SUFFIXES = (*JSON_LINES, ".parquet", *ARROW, *CSV)
# What `datasets` keeps beside a data set on disk: no rows of it, or not as they are now.
_NO_DATA = ("dataset_info.json", "dataset_dict.json", "state.json", "dataset_infos.json")


def is_remote(path: str) -> bool:
    """Whether a path has a protocol in front, as in s3://BUCKET/FILE."""
    return "://" in path


def is_saved_data(folder: Path) -> bool:
    """Whether a folder is what `save_to_disk` of `datasets` wrote, and no model's."""
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


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
        found = sorted(p for p in inside if p.name.endswith(suffixes) and not _is_no_data(p))
        labelled = [(f"{path.rstrip('/')}/{p.as_posix()}", place / p) for p in found]
    else:
        matches = sorted(glob.glob(str(place), recursive=True))
        labelled = [(m, Path(m)) for m in matches if Path(m).is_file()]
    if not labelled:
        named = f"no file in this folder ends in {', '.join(suffixes)}"
        what = named if place.is_dir() else "no such file"
        raise MissingInputError(
            f"{path}: {what} (looked from {Path.cwd()}); set the path to where it lies"
        )
    return labelled


def _is_no_data(path: Path) -> bool:
    """Caches, checkpoints and versions that tools keep beside data begin with a dot; `datasets` has
    names of its own for them.
    """
    is_cache = path.name.startswith("cache-") and path.name.endswith(ARROW)
    return is_cache or path.name in _NO_DATA or any(part.startswith(".") for part in path.parts)
