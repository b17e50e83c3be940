"""Scores of evaluations off their tables: paired differences, and what noise is made of."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from evals.statistics.noise import Array, noise_floor
from evals.win_rate.differences import policy_difference
from evals.win_rate.win_rate import prompt_scores, verdict_score
from schemas.labels import BOTH_ORDERS
from schemas.parquet import read_rows
from schemas.tables import COMPARISONS, VERDICTS

Cells = dict[tuple[str, int], list[float]]
"""(prompt, number of the sample) -> the scores of both orders, 1 where the policy wins."""


def paired_with(one: Path, other: Path) -> dict[str, Any] | None:
    """How much better one evaluation's policy is, over the prompts that both have.

    Each is given by its run directory. None where they have no prompt and judge in common.
    """
    if _judge(one) is None or _judge(one) != _judge(other):
        return None
    found = policy_difference(*(prompt_scores(_verdicts(directory)) for directory in (one, other)))
    if found is None:
        return None
    return found.difference.to_json() | {"p_value": found.p_value, "verdict": str(found.verdict)}


def noise_of(directories: Sequence[Path]) -> dict[str, Any] | None:
    """The noise floor of several trainings of one setting; None below two, or without verdicts."""
    if len(directories) < 2 or any(_judge(directory) is None for directory in directories):
        return None
    scores = _design([_cells(directory) for directory in directories])
    floor = None if scores is None else noise_floor(scores)
    if floor is None:
        return None
    return asdict(floor) | {"exceeds_a_rerun": floor.exceeds_a_rerun}


def _design(trainings: Sequence[Cells]) -> Array | None:
    """Scores (prompts, seeds, samples, orders) of what all trainings have in full."""
    whole = [
        {cell for cell, scores in cells.items() if len(scores) == len(BOTH_ORDERS)}
        for cells in trainings
    ]
    common = set.intersection(*whole)
    samples: dict[str, list[int]] = defaultdict(list)
    for prompt, sample in sorted(common):
        samples[prompt].append(sample)
    most = max(map(len, samples.values()), default=0)
    prompts = [prompt for prompt, found in samples.items() if len(found) == most]
    if not prompts:
        return None
    return np.array(
        [[[c[p, s] for s in samples[p]] for c in trainings] for p in prompts], dtype=np.float64
    )


def _judge(directory: Path) -> str | None:
    """The fingerprint of the judge of an evaluation; None where there is none."""
    try:
        rates = json.loads((directory / "evaluate" / "win_rates.json").read_text())
        return str(rates["judge"]["judge_fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _cells(directory: Path) -> Cells:
    folder = directory / "evaluate"
    place: dict[str, tuple[str, int]] = {}
    seen: dict[str, int] = defaultdict(int)
    for row in read_rows(folder / COMPARISONS.file_name, COMPARISONS):
        place[row["comparison_id"]] = (row["prompt_id"], seen[row["prompt_id"]])
        seen[row["prompt_id"]] += 1
    cells: Cells = defaultdict(list)
    for row in _verdicts(directory):
        if row["verdict"] is not None:
            cells[place[row["comparison_id"]]].append(verdict_score(row))
    return cells


def _verdicts(directory: Path) -> list[dict[str, Any]]:
    """The rows of the run's judge, by comparison and order."""
    judge = _judge(directory)
    rows = read_rows(directory / "evaluate" / VERDICTS.file_name, VERDICTS)
    own = [row for row in rows if row["judge_fingerprint"] == judge]
    return sorted(own, key=lambda row: (row["comparison_id"], row["order"]))
