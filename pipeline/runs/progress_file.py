"""How far a stage is, in a small file: for whoever asks from another terminal."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from evals.pulse import heard_by
from pipeline.display.pace import Pace, duration, every
from schemas.files import read_record, write_json
from schemas.stage import Progress, Task

_SECONDS_BETWEEN = 1.0


class WatchedProgress:
    """Passes everything on, and notes about once a second how far the work is."""

    def __init__(self, progress: Progress, path: Path) -> None:
        self.note = progress.note
        self.warn = progress.warn
        self._progress = progress
        self._path = path

    @contextmanager
    def task(self, title: str, total: int | None, unit: str) -> Iterator[Task]:
        """A line of progress, noted every second while the block runs, and at its end."""
        with self._progress.task(title, total, unit) as shown:
            task = _WatchedTask(shown, self._path, {"title": title, "total": total, "unit": unit})
            try:
                with heard_by(task.pace.under_way), every(_SECONDS_BETWEEN, task.write):
                    yield task
            finally:
                task.write()

    def forget(self) -> None:
        """Remove the file: the stage is finished, and its manifest says so."""
        self._path.unlink(missing_ok=True)


class _WatchedTask:
    def __init__(self, shown: Task, path: Path, about: Mapping[str, Any]) -> None:
        self.pace = Pace(about["total"])
        self._shown = shown
        self._path = path
        self._about = about
        self._values: dict[str, float | int | str] = {}

    def advance(self, units: int = 1) -> None:
        self._shown.advance(units)
        self.pace.advance(units)

    def metrics(self, values: Mapping[str, float | int | str]) -> None:
        self._shown.metrics(values)
        self._values = dict(values)

    def write(self) -> None:
        """Note how far the work is; whoever reads finds the old file or the new one."""
        record = {
            **self._about,
            "done": int(self.pace.amount),
            "kept": self.pace.done,
            "seconds": round(self.pace.seconds, 1),
            "per_second": self.pace.rate() or 0.0,
            "left": self.pace.left(),
            "values": self._values,
        }
        with suppress(OSError):  # whoever asks is told less; the work goes on
            write_json(self._path, record, indent=None)


def how_far(path: Path) -> str:
    """The newest note in words, such as `sampling: 640/1,000 completions, 12.3/s, 29 s left`."""
    try:
        return _in_words(json.loads(read_record(path)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # torn, or not ours
        return ""


def _in_words(found: Mapping[str, Any]) -> str:
    done, total, rate = found["done"], found["total"], found["per_second"]
    said = [f"{found['title']}: {done:,}{f'/{total:,}' if total else ''} {found['unit']}"]
    if found.get("seconds"):
        said.append(duration(found["seconds"]))
    if rate:
        said.append(f"{rate:,.1f}/s")
    if found.get("left"):
        said.append(f"{duration(found['left'])} left")
    values = [f"{k} {_number(v)}" for k, v in list(found["values"].items())[:4]]
    return ", ".join(said + values)


def _number(value: float | int | str) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


class Recorder:
    """Passes progress on, and keeps what was said for the manifest, each message once.

    What was said is on disk too: a run that goes on where another was killed knows it all.
    """

    def __init__(self, progress: Progress, record: Path) -> None:
        self.task = progress.task
        self._progress = progress
        self._record = record
        said = _read_said(record)
        self.notes: list[str] = said["notes"] if said else []
        self.warnings: list[str] = said["warnings"] if said else []
        if said is None:
            self.warn("what was warned of before the interruption is damaged, and lost")

    def note(self, message: str) -> None:
        """Keep a note, and pass it on."""
        self._keep(self.notes, message)
        self._progress.note(message)

    def warn(self, message: str) -> None:
        """Keep a warning, and pass it on."""
        self._keep(self.warnings, message)
        self._progress.warn(message)

    def _keep(self, said: list[str], message: str) -> None:
        if message not in said:
            said.append(message)
            kept = {"notes": self.notes, "warnings": self.warnings}
            write_json(self._record, {**kept, "sha256": _hash_of(kept)})


def _read_said(record: Path) -> dict[str, list[str]] | None:
    """What an interrupted run has said; None where its record is damaged."""
    if not record.exists():
        return {"notes": [], "warnings": []}
    try:
        found = json.loads(read_record(record))
        kept = {name: [str(message) for message in found[name]] for name in ("notes", "warnings")}
        return kept if found["sha256"] == _hash_of(kept) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _hash_of(said: Mapping[str, Sequence[str]]) -> str:
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
