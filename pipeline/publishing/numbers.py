"""The numbers of a model card, and how they follow from the saved verdicts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.files.verdicts import read_declared, read_judged
from evals.win_rate.report import win_rate_report
from schemas.tables import VERDICTS

Numbers = dict[str, dict[str, Any]]
"""By judge: win_rate, ci_low, ci_high, n, wins, ties, losses, unscored, and the sentence."""

_KEYS = ("n", "win_rate", "ci_low", "ci_high", "n_wins", "n_ties", "n_losses", "n_unscored")


def numbers_of(folder: Path) -> Numbers:
    """The numbers of an evaluation, computed from its verdicts.parquet and the tables beside it.

    Raises:
        MissingInputError, DataError: what `read_judged` raises.
    """
    verdicts = folder / VERDICTS.file_name
    declared = read_declared(verdicts)
    judges = declared.judges if declared else {}
    measure = declared.headline if declared else "win_rate"
    found: Numbers = {}
    for role, said in judges.items():
        report = win_rate_report(read_judged(verdicts, judge=said[0]), measure)
        numbers = {key: getattr(report, key) for key in _KEYS}
        found[role] = numbers | {"judge": said[0], "statement": report.statement}
    return found


def differences(said: Mapping[str, Any], found: Mapping[str, Any], where: str = "") -> list[str]:
    """Every number that is not what the verdicts give, in words; rounding is no difference."""
    wrong: list[str] = []
    for key in sorted(said.keys() | found.keys()):
        place = f"{where}.{key}" if where else key
        one, other = said.get(key), found.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            wrong += differences(one, other, place)
        elif not _same(one, other):
            wrong.append(f"{place}: the card says {one}, the verdicts give {other}")
    return wrong


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-9
    return bool(one == other)
