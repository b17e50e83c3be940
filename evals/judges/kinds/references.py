"""Reference answers from a file, by prompt."""

from pathlib import Path

from evals.files.outputs.fields import found_columns, reference_of, user_turns
from evals.files.outputs.rows import file_rows
from schemas.errors import DataError
from schemas.ids import prompt_id


def read_references(path: Path) -> dict[str, str]:
    """Reference answers by the id of their prompts' turns; rows without one are passed over.

    Raises:
        MissingInputError, DataError: the file cannot be read, a row names no prompt, no row has a
            reference, or two give one prompt different ones; the message names the row.
    """
    found: dict[str, str] = {}
    seen = "none"
    for number, row in file_rows(path):
        seen = found_columns(row)
        value = reference_of(row)
        if value is None:
            continue
        turns = user_turns(path, number, row)
        if not turns:
            raise DataError(f"{path}: row {number}: names no prompt (found {seen})")
        key = prompt_id(turns[0])
        if found.setdefault(key, value) != value:
            raise DataError(
                f"{path}: row {number}: another reference for the same prompt; keep one of them"
            )
    if not found:
        raise DataError(
            f"{path}: no row has a reference (found {seen}); write prompt and reference"
        )
    return found
