"""What a file is, by its name and its first bytes."""

from pathlib import Path
from typing import Literal

from evals.files.opening.places import ARROW, CSV

Format = Literal["json", "parquet", "arrow", "csv"]


def format_of(path: Path) -> Format:
    """The format of a file; JSON where nothing says anything else."""
    if path.name.endswith(".parquet"):
        return "parquet"
    if path.name.endswith(ARROW):
        return "arrow"
    if path.name.endswith(CSV):
        return "csv"
    return "json"
