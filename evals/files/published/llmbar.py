"""LLMBar's judges: accuracies in both orders and kappas, from their replies (arXiv 2310.07641).

Each `statistics.json` of the main set stands beside the `result.json` that it was made of. A reply
without a winner is wrong. The published kappas take every winner that is not output 1 for a third
label, 0; so do we, for those numbers.
"""

import json
from collections.abc import Iterator
from typing import Any

from evals.files.published.numbers import Files, Number
from evals.statistics.raters import cohen_kappa
from schemas.errors import DataError

PATTERN = "*LLMBar/*/statistics.json"
SIDES = ("swap = False", "swap = True")
_EXACT = 1e-9


def llmbar(files: Files) -> Iterator[Number]:
    """Nine numbers of every file of the main set.

    Raises:
        MissingInputError, DataError: it is no copy of LLMBar.
    """
    hint = "give a copy of its repository, whose Dataset/LLMBar has evaluators with statistics"
    for name in files.matching(PATTERN, hint):
        place = name.removesuffix("statistics.json")
        try:
            published = json.loads(files.read(name))
            ours = _statistics(json.loads(files.read(f"{place}result.json")))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(f"{files.path}: {place}: not LLMBar's results ({error})") from error
        for what, value in published.items():
            if what in ours:
                yield Number(_judge(place), what, _number(value), ours[what], _EXACT)


def _judge(place: str) -> str:
    return place.partition("LLMBar/")[2].replace("/evaluators/", " ").strip("/")


def _number(value: Any) -> float:
    """A share in percent from "95 / 100 = 95.0%", or a kappa as it is."""
    if isinstance(value, str):
        return float(value.rpartition("=")[2].strip().rstrip("%"))
    return float(value)


def _statistics(rows: list[dict[str, Any]]) -> dict[str, float]:
    n = len(rows)
    labels = [str(row["label"]) for row in rows]
    one, other = ([row["results"][-1][side]["winner"] for row in rows] for side in SIDES)
    right = [[a == b for a, b in zip(said, labels, strict=True)] for said in (one, other)]
    both = [a and b for a, b in zip(*right, strict=True)]
    same = [a == b for a, b in zip(one, other, strict=True)]
    first, second = (sum(hits) for hits in right)
    kappas = [_kappa(one, labels), _kappa(other, labels)]
    return {
        "correct_False": first / n * 100,
        "correct_True": second / n * 100,
        "correct_average": (first + second) / 2 / n * 100,
        "correct_both": sum(both) / n * 100,
        "equal": sum(same) / n * 100,
        "kappa_False": kappas[0],
        "kappa_True": kappas[1],
        "kappa_average": sum(kappas) / 2,
        "kappa_agreement": _kappa(one, other, of_labels=False),
    }


def _kappa(said: list[str | None], other: list[Any], *, of_labels: bool = True) -> float:
    taken = [int(winner == "1") for winner in said]
    beside = [int(label) if of_labels else int(label == "1") for label in other]
    found = cohen_kappa(list(zip(taken, beside, strict=True)))
    return float("nan") if found is None else found
