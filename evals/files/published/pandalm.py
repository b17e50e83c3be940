"""PandaLM's people: Cohen's kappas of three annotators, and what most of them say.

(Y. Wang et al., arXiv 2306.05087; data/testset-v1.json.) Its README gives kappas to two digits.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from evals.files.published.numbers import Files, Number
from evals.statistics.raters import cohen_kappa
from schemas.errors import DataError

Row = Mapping[str, Any]

PATTERN = "*testset-v1.json"
ANNOTATORS = ("annotator1", "annotator2", "annotator3")
KAPPAS = {("annotator1", "annotator2"): 0.85, ("annotator1", "annotator3"): 0.88}
KAPPAS |= {("annotator2", "annotator3"): 0.86}
LABELS = {0: 105, 1: 422, 2: 472}
"""0 is a tie, 1 and 2 the response that is better: pairs by what most annotators say."""

_TWO_DIGITS = 0.005
JUDGES = {"gpt_result": "gpt-3.5-turbo", "pandalm_result": "PandaLM-7B"}


def pandalm(files: Files) -> Iterator[Number]:
    """Three kappas and three counts.

    Raises:
        MissingInputError, DataError: it is no copy of PandaLM's data.
    """
    rows = people(files)
    for (one, other), published in KAPPAS.items():
        ours = cohen_kappa([(row[one], row[other]) for row in rows])
        found = float("nan") if ours is None else ours
        yield Number("people", f"kappa {one[-1]}, {other[-1]}", published, found, _TWO_DIGITS)
    counts = Counter(majority(row) for row in rows)
    for label, number in LABELS.items():
        what = f"response {label} better" if label else "tie"
        yield Number("people", what, float(number), float(counts[label]), 0.0)


def people(files: Files) -> list[Row]:
    """The pairs with their three labels, in the file's order.

    Raises:
        MissingInputError, DataError: there is no such file, or it is another.
    """
    hint = "give a copy of its repository, which has data/testset-v1.json"
    names = [name for name in files.matching(PATTERN, hint) if _is_people(name)]
    if not names:
        raise DataError(f"{files.path}: holds no testset-v1.json of people's labels; {hint}")
    rows: list[Row] = _rows(files, names[0])
    if not all(all(isinstance(row.get(who), int) for who in ANNOTATORS) for row in rows):
        raise DataError(f"{files.path}: {names[0]}: a row has not three annotators' labels")
    return rows


def judged(files: Files) -> dict[str, list[float]]:
    """Of each stored judge the score of response 1, 0.5 where it named neither, by row."""
    found: dict[str, list[float]] = {}
    for name in files.matching(PATTERN, "give a copy of its repository"):
        for key, judge in JUDGES.items():
            rows = _rows(files, name)
            if rows and key in rows[0]:
                found[judge] = [SCORES.get(str(row[key]), 0.5) for row in rows]
    return found


SCORES = {"1": 1.0, "2": 0.0}


def majority(row: Row) -> int | None:
    """What two annotators of the three say; None where all differ."""
    (label, count), *_ = Counter(row[who] for who in ANNOTATORS).most_common(1)
    return int(label) if count > 1 else None


def _is_people(name: str) -> bool:
    return name.rpartition("/")[2] == "testset-v1.json"


def _rows(files: Files, name: str) -> list[Row]:
    try:
        found: list[Row] = json.loads(files.read(name))
    except ValueError as error:
        raise DataError(f"{files.path}: {name}: not JSON ({error})") from error
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise DataError(f"{files.path}: {name}: not a list of pairs")
    return found
