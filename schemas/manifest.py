"""The record of a finished stage. It is written last: where it exists, the stage is finished."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import DataError
from schemas.files import first_line, read_record

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
    `skipped` marks a stage that the recipe leaves out; `sha256` is the hash of all else, by which
    a record that was changed is known (None in those of earlier versions).
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
    sha256: str | None = None

    def sealed_json(self) -> str:
        """The record as text, with the hash of all else in it."""
        text = self.model_dump_json(exclude={"sha256"})
        sealed = self.model_copy(update={"sha256": _digest(text)})
        return sealed.model_dump_json(indent=1) + "\n"


def read_manifest(stage_dir: Path) -> Manifest | None:
    """The manifest of a stage directory, or None where the stage is not finished.

    Raises:
        DataError: there is a manifest, and it cannot be read, or is not as it was written.
    """
    path = stage_dir / MANIFEST_NAME
    try:
        text = read_record(path)
        manifest = Manifest.model_validate_json(text)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValidationError, OSError) as error:
        raise DataError(
            f"{path}: not a manifest ({first_line(error)}); run the stage {stage_dir.name} again"
        ) from error
    if manifest.sha256 not in (None, _digest(text)):
        raise DataError(
            f"{path}: not a manifest as it was written (its own hash is another); run the stage "
            f"{stage_dir.name} again"
        )
    return manifest


def _digest(text: str | bytes) -> str:
    """SHA-256 of all that a record says but its own hash, however it is laid out."""
    said = json.loads(text)
    said.pop("sha256", None)
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
