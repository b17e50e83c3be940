"""Examples of judging that a judge is shown before it is asked, from a file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.files.outputs.fields import conversation, found_columns, user_turns
from evals.files.outputs.rows import file_rows
from evals.judges.kinds.questions import Form, Shown
from evals.judges.ratings.reading import RatingReading
from evals.judges.verdicts.readings import Reading
from schemas.errors import DataError
from schemas.ids import prompt_id
from schemas.labels import Comparison, Message

Row = Mapping[str, Any]


def read_examples(path: Path, form: Form) -> list[Shown]:
    """The examples of a file, in its order.

    A row has `prompt`, `completion_a`, `completion_b` and `verdict`, with criteria one verdict for
    each of them; a judge that rates takes `prompt`, `completion` and `ratings`, a number or one for
    each criterion. `reason` and `reference` may stand beside them.

    Raises:
        MissingInputError, DataError: the file cannot be read, a row lacks something, or its answer
            is none that this judge may give; the message names the row and the key.
    """
    found = [_example(path, number, row, form) for number, row in file_rows(path)]
    if not found:
        raise DataError(f"{path}: holds no example; write one JSON object a line")
    return found


def _example(path: Path, number: int, row: Row, form: Form) -> Shown:
    turns = user_turns(path, number, row)
    if not turns:
        raise DataError(
            f"{path}: row {number}: names no prompt (found {found_columns(row)}); write it as "
            '"prompt"'
        )
    names = ("completion",) if form.answer == "rating" else ("completion_a", "completion_b")
    sides = [_completion(path, number, row, name) for name in names]
    reference = row.get("reference")
    if not isinstance(reference, str | None):
        raise DataError(f"{path}: row {number}: reference is no text")
    key = f"example {number}"
    a, b = sides[0], sides[1] if len(sides) > 1 else []
    comparison = Comparison(key, prompt_id(turns[0]), turns[0], a, b, reference)
    return Shown(comparison, _answer(path, number, row, form))


def _completion(path: Path, number: int, row: Row, name: str) -> list[Message]:
    value = row.get(name)
    if isinstance(value, list):
        return conversation(path, number, name, value)
    if not isinstance(value, str):
        raise DataError(
            f"{path}: row {number}: {name} is missing (found {found_columns(row)}); give the "
            "completion as a text or as messages"
        )
    return [{"role": "assistant", "content": value}]


def _answer(path: Path, number: int, row: Row, form: Form) -> str:
    """The answer in the form that the judge is asked for, reasons first where it gives any."""
    key = "ratings" if form.answer == "rating" else "verdict"
    stated = _stated(row.get(key), form)
    if stated is None:
        raise DataError(
            f"{path}: row {number}: {key} is {row.get(key)!r}, which is no answer to "
            f"{_wanted(form)}"
        )
    reason = row.get("reason")
    if not isinstance(reason, str | None):
        raise DataError(f"{path}: row {number}: reason is no text")
    return f"{reason.strip()}\n{stated}" if reason and form.answer != "label" else stated


def _stated(value: Any, form: Form) -> str | None:
    """The line that states an answer; None where it would not be read as one."""
    weights = dict.fromkeys(form.criteria, 1.0)
    if form.answer == "rating":
        said = json.dumps(value) if weights else f"Rating: {value}"
        return said if RatingReading(weights).of(said) else None
    if weights:
        said = json.dumps(value)
        return said if Reading(weights=weights).of(said) else None
    if not isinstance(value, str) or Reading().of(value) is None:
        return None
    if form.answer == "scale":
        return f"[[{value.strip().strip('[]')}]]"
    return value.strip() if form.answer == "label" else f"Verdict: {value.strip()}"


def _wanted(form: Form) -> str:
    named: Sequence[str] = form.criteria
    if form.answer == "rating":
        each = f" for each of {', '.join(named)}" if named else ""
        return f"a question for a whole number from 1 to 10{each}"
    if named:
        return f"a question for A, B or Tie for each of {', '.join(named)}"
    return "a question for " + (
        "A>>B, A>B, A=B, B>A or B>>A" if form.answer == "scale" else "A, B or Tie"
    )
