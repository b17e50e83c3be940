"""Does the anchored interval hold the people's rate? Simulated judges, and real people's labels.

Simulated: judges from useless to perfect, 50 to 400 labels of 805 prompts, ties, even and weighted
draws. Real: Auto-J's human pairs with the longer-wins rule and a rule of the text as judges; the
human rate of all pairs is the truth, each replicate redraws the prompts with replacement and then
labels n of them; PandaLM's pairs and stored judges likewise, where PREFLINE_PANDALM names a copy.
Writes results/anchored.json beside this file.
"""

import json
import math
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evals.files.labelled import read_labelled
from evals.files.published.numbers import Files
from evals.files.published.pandalm import ANNOTATORS, judged, people
from evals.files.published.pandalm import JUDGES as STORED
from evals.judges.layout import text_of
from evals.statistics.anchored import Anchored, anchored_rate
from evals.statistics.intervals import wilson_effective

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("PREFLINE_REAL_DATA", ROOT.parent / "shared" / "data"))
PANDALM = Path(os.environ["PREFLINE_PANDALM"]) if "PREFLINE_PANDALM" in os.environ else None
"""A copy of its repository; without one its cells stay as they are in the results."""

RESULT = Path(__file__).parent / "results" / "anchored.json"

PROMPTS, TRUTH = 805, 0.65
LABELLED = (50, 100, 200, 400)
JUDGES = (0.0, 0.4, 0.75, 1.0)
TIES = (0.0, 0.15)
SIMULATED, REPLICATES = 1000, 2000
SCORES = {"A": 1.0, "B": 0.0, "Tie": 0.5}

Row = dict[str, Any]
Array = npt.NDArray[np.float64]


def _simulate(case: tuple[float, float, int, bool]) -> Row:
    """A judge that knows the label with probability `right` and else leans to the policy."""
    right, ties, n, weighted = case
    generator = np.random.default_rng([int(100 * right), int(100 * ties), n, weighted])
    share = np.array([TRUTH - ties / 2, 1 - TRUTH - ties / 2, ties])
    found, naive = [], 0
    for _ in range(SIMULATED):
        labels = generator.choice([1.0, 0.0, 0.5], size=PROMPTS, p=share)
        guess = generator.choice([1.0, 0.0, 0.5], size=PROMPTS, p=[0.75, 0.2, 0.05])
        judged = np.where(generator.random(PROMPTS) < right, labels, guess)
        found.append(_anchor(judged, labels, n, weighted, generator))
        error = float(judged.std(ddof=1)) / PROMPTS**0.5
        low, high = wilson_effective(float(judged.mean()), error, PROMPTS)
        naive += low <= TRUTH <= high
    named = {"right": right, "ties": ties, "labelled": n, "weighted": weighted}
    return named | _coverage(found, TRUTH) | {"judge_alone": naive / SIMULATED}


def _anchor(
    judged: Array, labels: Array, n: int, weighted: bool, generator: np.random.Generator
) -> Anchored:
    if weighted:
        weights = 0.25 + 1.5 * (np.abs(judged - 0.5) < 0.25) + generator.random(len(judged))
        probability = np.minimum(1.0, weights / weights.sum() * n)
        return anchored_rate(
            judged, labels, generator.random(len(judged)) < probability, probability
        )
    labelled = np.zeros(len(judged), dtype=np.bool_)
    labelled[generator.choice(len(judged), n, replace=False)] = True
    return anchored_rate(judged, labels, labelled)


def _real(case: tuple[str, int]) -> Row:
    """Auto-J's pairs: 1,392 of 58 scenarios, each labelled by people."""
    name, n = case
    units = read_labelled(DATA / "judging" / "autoj_human_pairs.parquet").comparisons
    labels = np.array([SCORES[unit.label.value] for unit in units])
    measure = len if name == "length" else _marks
    judged = np.array(
        [
            _ahead(
                measure(text_of(u.comparison.completion_a)),
                measure(text_of(u.comparison.completion_b)),
            )
            for u in units
        ]
    )
    return _replicates(name, judged, labels, n)


def _stored(case: tuple[str, int]) -> Row:
    """PandaLM's pairs: 999, three people each, and the verdicts of its two stored judges."""
    name, n = case
    files = Files(PANDALM or Path())
    points = {1: 1.0, 2: 0.0, 0: 0.5}
    labels = np.array([np.mean([points[row[who]] for who in ANNOTATORS]) for row in people(files)])
    return _replicates(name, np.array(judged(files)[name]), labels, n)


def _replicates(name: str, judged: Array, labels: Array, n: int) -> Row:
    """The people's rate of all pairs is the truth; pairs are redrawn, then n of them labelled."""
    truth = float(labels.mean())
    generator = np.random.default_rng([7, n])
    found, naive = [], 0
    for _ in range(REPLICATES):
        drawn = generator.integers(0, len(labels), size=len(labels))
        found.append(_anchor(judged[drawn], labels[drawn], n, False, generator))
        error = float(judged[drawn].std(ddof=1)) / len(labels) ** 0.5
        low, high = wilson_effective(float(judged[drawn].mean()), error, len(labels))
        naive += low <= truth <= high
    named = {"judge": name, "labelled": n, "people_rate": truth}
    named |= {"judge_rate": float(judged.mean())}
    return named | _coverage(found, truth) | {"judge_alone": naive / REPLICATES}


def _ahead(one: int, other: int) -> float:
    return 0.5 if one == other else float(one > other)


def _marks(text: str) -> int:
    return sum(line.lstrip()[:1] in "-*#0123456789" for line in text.splitlines() if line.strip())


def _coverage(found: list[Anchored], truth: float) -> Row:
    row: Row = {"repeats": len(found)}
    for who in ("anchored", "people"):
        ends = [(getattr(d, who).ci_low, getattr(d, who).ci_high) for d in found]
        row[f"{who}_coverage"] = sum(low <= truth <= high for low, high in ends) / len(ends)
        row[f"{who}_width"] = sum(high - low for low, high in ends) / len(ends)
    return row


def kept_cells() -> list[Row]:
    """The cells of stored judges that the results have."""
    found: list[Row] = json.loads(RESULT.read_bytes()).get("stored", []) if RESULT.exists() else []
    return found


def main() -> int:
    """Measure, write, and say what holds; 1 where a promise is broken."""
    if not DATA.is_dir():
        sys.stderr.write(f"error: no real data at {DATA}; set PREFLINE_REAL_DATA\n")
        return 2
    start = time.monotonic()
    with ProcessPoolExecutor(max_workers=4) as pool:
        real = pool.map(_real, product(("length", "rule: more lists"), LABELLED))
        simulated = pool.map(_simulate, product(JUDGES, TIES, LABELLED, (False, True)))
        stored = pool.map(_stored, product(STORED.values(), LABELLED)) if PANDALM else kept_cells()
        result = {"real": list(real), "stored": list(stored), "simulated": list(simulated)}
    cells = [row for rows in result.values() for row in rows]
    kept = {
        f"{who}_coverage_93_to_97_by_two_simulation_errors": all(
            abs(r[f"{who}_coverage"] - 0.95) <= 0.02 + 2 * math.sqrt(0.95 * 0.05 / r["repeats"])
            for r in cells
        )
        for who in ("anchored", "people")
    }
    rows = [
        {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in cells
    ]
    table = {"kept": kept} | {
        name: [rows[cells.index(cell)] for cell in found] for name, found in result.items()
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(table, indent=1) + "\n")
    for promise, holds in kept.items():
        sys.stdout.write(f"{'holds ' if holds else 'BROKEN'} {promise.replace('_', ' ')}\n")
    sys.stdout.write(f"{RESULT.relative_to(ROOT)} in {time.monotonic() - start:.0f} s\n")
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
