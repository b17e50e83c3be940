"""Why a stage ended with an error, kept beside what it had done until then."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.runs.publish import FAILED_RECORD
from pipeline.world_errors import is_interrupt, sentence_of
from schemas.errors import PipelineError
from schemas.files import first_line, read_record, write_text


@contextmanager
def noting_failure(partial: Path) -> Iterator[None]:
    """Write down the reason if the block ends with an error; Ctrl-C and kills are none."""
    record = partial / FAILED_RECORD
    record.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        if not is_interrupt(error):
            with suppress(OSError):  # the error itself is told, with or without a record
                write_text(record, _reason(error))
        raise


def failure_of(partial: Path) -> str | None:
    """Why the last attempt at a stage failed; None where it did not, or nobody has written it."""
    try:
        return read_record(partial / FAILED_RECORD).decode()
    except (OSError, UnicodeDecodeError):
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, PipelineError):
        return " ".join(str(error).split())
    return sentence_of(error) or f"{type(error).__name__}: {first_line(error)} (a bug of prefline)"
