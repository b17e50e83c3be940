"""The record of a finished stage. It is written last: where it exists, the stage is finished."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import DataError
from schemas.files import first_line

MANIFEST_NAME = "manifest.json"


class OutputFile(BaseModel):
    """Size and content hash of one file of a stage.

    `content` is the hash of what others may depend on, where the file also tells of the machine or
    the hour; None where that is the whole file.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    size_bytes: int
    sha256: str
    content: str | None = None


class Provenance(BaseModel):
    """Where, when and with what a stage ran. Times are UTC, ISO 8601."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    started_at: str
    finished_at: str
    wall_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    commit: str | None
    dirty: bool | None
    command: list[str]
    python: str
    packages: dict[str, str]
    hardware: dict[str, str | int]
    resumed: bool = False


class Manifest(BaseModel):
    """What a stage was made of and what it made.

    `fingerprint` is the SHA-256 of `payload` in canonical JSON; `counts` are the stage's own
    (rows in, kept, rejected by reason); `notes` and `warnings` are what it said while it worked;
    `missing` is what it could not do, and does when it is asked again;
    `skipped` marks a stage that the recipe leaves out.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    stage: str
    fingerprint: str
    payload: dict[str, Any]
    counts: dict[str, int] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    missing: list[str] = Field(default_factory=list)
    outputs: dict[str, OutputFile] = Field(default_factory=dict)
    provenance: Provenance
    skipped: bool = False


def read_manifest(stage_dir: Path) -> Manifest | None:
    """The manifest of a stage directory, or None where the stage is not finished.

    Raises:
        DataError: there is a manifest, and it cannot be read.
    """
    path = stage_dir / MANIFEST_NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValidationError, OSError) as error:
        raise DataError(
            f"{path}: not a manifest ({first_line(error)}); run the stage {stage_dir.name} again"
        ) from error
