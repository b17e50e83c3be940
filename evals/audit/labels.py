"""What people said of pairs, as JSON lines: on disk before anything else happens."""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Literal, get_args

from schemas.errors import DataError, MissingInputError

LabelValue = Literal["A", "B", "tie", "skip"]
LABEL_VALUES = get_args(LabelValue)


@dataclass(frozen=True)
class HumanLabel:
    """One person's answer about one comparison.

    `label`: A or B as the table has the sides, whatever side they were shown on. `seconds`: from
    the moment the pair was shown to the answer. `probability`: with which the pair was drawn, so
    that an estimate can undo an uneven draw; None where every pair was as likely.
    """

    comparison_id: str
    annotator: str
    label: LabelValue
    seconds: float = 0.0
    note: str = ""
    prompt_id: str | None = None
    probability: float | None = None


def read_labels(path: Path) -> list[HumanLabel]:
    """The labels of a file that is only read; of a repeated one the last.

    Raises:
        MissingInputError: no such file.
        DataError: a line is no label; the message names it.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file of labels; correct its path")
    return _latest(_labels(path.read_bytes().decode("utf-8", "replace"), path))


class LabelFile:
    """A file of labels that several people, and several processes, write to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[HumanLabel]:
        """All labels, in the order in which they were given; of a repeated one the last.

        Raises:
            DataError: a line is no label; the message names it.
        """
        if not self.path.exists():
            return []
        with self._locked() as file:
            return _latest(_labels(file.read().decode("utf-8", "replace"), self.path))

    def add(self, label: HumanLabel) -> None:
        """Write one label; it is on the disk when this returns."""
        with self._locked() as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                # A line that a power cut has left half written ends here, and is read as damaged.
                start = b"" if file.read(1) == b"\n" else b"\n"
                file.seek(0, os.SEEK_END)
                file.write(start)
            file.write(_line(label))
            file.flush()
            os.fsync(file.fileno())

    def take_back(self, annotator: str) -> HumanLabel | None:
        """Remove the last label of one person and return it; None where there is none."""
        with self._locked() as file:
            known = _latest(_labels(file.read().decode("utf-8", "replace"), self.path))
            mine = [label for label in known if label.annotator == annotator]
            if not mine:
                return None
            kept = b"".join(_line(label) for label in known if label is not mine[-1])
            # In place, under the lock that other writers wait for; what is cut off is gone last.
            file.seek(0)
            file.write(kept)
            file.flush()
            os.fsync(file.fileno())
            file.truncate(len(kept))
            os.fsync(file.fileno())
            return mine[-1]

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        with open(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file


def _line(label: HumanLabel) -> bytes:
    said = {name: value for name, value in asdict(label).items() if value is not None}
    return (json.dumps(said, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _labels(text: str, path: Path) -> Iterator[HumanLabel]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _label(line, f"{path}:{number}")


def _label(line: str, where: str) -> HumanLabel:
    try:
        found = json.loads(line)
        known = {f.name for f in fields(HumanLabel)}
        if "prompt_id" in found:  # labels of prompts with one comparison need not name it
            found = {"comparison_id": "", **found}
        label = HumanLabel(**{name: value for name, value in found.items() if name in known})
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{where}: not a label ({str(error).splitlines()[0]}); each line is "
            '{"comparison_id", "annotator", "label", "seconds"}; mend or delete the line'
        ) from error
    if label.label not in LABEL_VALUES:
        raise DataError(f"{where}: label {label.label!r} is none of {', '.join(LABEL_VALUES)}")
    if not isinstance(label.comparison_id, str) or not isinstance(label.annotator, str):
        raise DataError(f"{where}: comparison_id and annotator are texts")
    return label


def _latest(labels: Iterator[HumanLabel]) -> list[HumanLabel]:
    """Of each person and comparison the last answer, at the place where it was given."""
    found: dict[tuple[str, str], HumanLabel] = {}
    for label in labels:
        key = label.annotator, label.comparison_id or f"prompt {label.prompt_id}"
        found.pop(key, None)
        found[key] = label
    return list(found.values())


def majority(labels: Sequence[HumanLabel]) -> dict[str, Literal["A", "B", "Tie"]]:
    """Comparison -> what most people said; as many for A as for B is a Tie, skips do not count."""
    points: dict[str, int] = {}
    for label in labels:
        if label.label != "skip":
            step = {"A": 1, "B": -1, "tie": 0}[label.label]
            points[label.comparison_id] = points.get(label.comparison_id, 0) + step
    return {key: "A" if p > 0 else "B" if p < 0 else "Tie" for key, p in points.items()}
