"""Which pairs a person is asked about: drawn once, with known probabilities, and kept."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import pstdev
from typing import Any, Literal

from schemas.errors import DataError, MissingInputError
from schemas.ids import file_sha256, seed_from
from schemas.labels import Messages
from schemas.parquet import read_rows
from schemas.tables import COMPARISONS, VERDICTS

Draw = Literal["random", "disagreement"]
PLAN_NAME = "plan.json"

# Of a weighted draw, the share that is spread evenly: no pair is out of reach.
_EVEN_SHARE = 0.25


@dataclass(frozen=True)
class AuditPair:
    """Two completions of a prompt. `probability`: with which it was drawn; None in an even draw."""

    comparison_id: str
    prompt_id: str
    prompt: Messages
    completion_a: Messages
    completion_b: Messages
    probability: float | None = None


@dataclass(frozen=True)
class Plan:
    """The pairs of an audit in the order in which they are asked, and how they were drawn."""

    comparisons_sha256: str
    draw: Draw
    seed: int
    n: int
    ids: tuple[str, ...]
    probabilities: tuple[float, ...]


def find_comparisons(target: Path) -> Path:
    """The comparisons of a run's evaluation, or the file itself.

    Raises:
        MissingInputError: there are none.
    """
    if target.is_file():
        return target
    path = target / "evaluate" / COMPARISONS.file_name
    if not path.is_file():
        raise MissingInputError(
            f"{target}: no evaluate/{COMPARISONS.file_name}; run `prefline evaluate` first, or "
            "name a file of comparisons"
        )
    return path


def open_plan(comparisons: Path, folder: Path, n: int, draw: Draw, seed: int) -> list[AuditPair]:
    """The pairs of this audit: as drawn before where there is a plan, else drawn now.

    Args:
        comparisons: a COMPARISONS table; a weighted draw reads verdicts.parquet beside it.
        folder: where the plan is kept.
        n: how many pairs, at most.
        draw: random, or by how much the verdicts on a pair disagree.
        seed: of the draw.

    Raises:
        DataError: the plan was made for other comparisons, or nothing can be drawn.
        MissingInputError: a weighted draw finds no verdicts.
    """
    rows = {row["comparison_id"]: row for row in read_rows(comparisons, COMPARISONS)}
    if not rows:
        raise DataError(f"{comparisons}: holds no comparisons; there is nothing to judge")
    digest = file_sha256(comparisons)
    path = folder / PLAN_NAME
    plan = _read(path)
    if plan is None:
        plan = _drawn(rows, comparisons, digest, n, draw, seed)
        _write(path, plan)
    elif plan.comparisons_sha256 != digest:
        raise DataError(
            f"{path}: these pairs were drawn from other comparisons than {comparisons} holds now; "
            "keep those labels where they are, and name a new folder with --labels"
        )
    given = zip(plan.ids, plan.probabilities, strict=True)
    even = plan.draw == "random"
    return [_pair(rows[key], None if even else probability) for key, probability in given]


def _drawn(
    rows: Mapping[str, Any], comparisons: Path, digest: str, n: int, draw: Draw, seed: int
) -> Plan:
    keys = sorted(rows, key=lambda key: (seed_from(seed, "audit", key), key))
    if draw == "random":
        chosen = {key: min(1.0, n / len(keys)) for key in keys[:n]}
    else:
        weights = _disagreements(comparisons, keys)
        wanted = inclusion_probabilities([weights[key] for key in keys], n)
        # Poisson sampling: each pair by itself, so that its probability is exactly this.
        dealt = {key: seed_from(seed, "deal", key) / 2**31 for key in keys}
        chosen = {key: p for key, p in zip(keys, wanted, strict=True) if dealt[key] < p}
    return Plan(digest, draw, seed, n, tuple(chosen), tuple(chosen.values()))


def inclusion_probabilities(weights: Sequence[float], n: int) -> list[float]:
    """Probabilities in (0, 1] in proportion to weights above zero, with sum min(n, len(weights)).

    Weights that ask for more than 1 get 1, and the others share what is left.
    """
    certain: set[int] = set()
    while True:
        free = [i for i in range(len(weights)) if i not in certain]
        total = sum(weights[i] for i in free)
        left = n - len(certain)
        over = [i for i in free if weights[i] * left >= total]
        if not over:
            break
        certain.update(over)
    return [1.0 if i in certain else weights[i] * left / total for i in range(len(weights))]


def _disagreements(comparisons: Path, keys: Sequence[str]) -> dict[str, float]:
    """Comparison -> weight: how far the verdicts on it are apart, judges and orders alike."""
    path = comparisons.with_name(VERDICTS.file_name)
    if not path.is_file():
        raise MissingInputError(
            f"{path}: not there, and the draw by disagreement needs verdicts; take --draw random"
        )
    scores: dict[str, list[float]] = {}
    for row in read_rows(path, VERDICTS):
        said = {"A": 1.0, "B": 0.0, "Tie": 0.5, None: 0.5}[row["verdict"]]
        soft = said if row["p_a"] is None else row["p_a"] + (row["p_tie"] or 0.0) / 2
        scores.setdefault(row["comparison_id"], []).append(soft)
    spread = {key: pstdev(scores[key]) if key in scores else 0.5 for key in keys}
    mean = sum(spread.values()) / len(spread) or 1.0
    return {key: _EVEN_SHARE + (1 - _EVEN_SHARE) * spread[key] / mean for key in keys}


def _pair(row: Mapping[str, Any], probability: float | None) -> AuditPair:
    names = ("comparison_id", "prompt_id", "prompt", "completion_a", "completion_b")
    return AuditPair(**{name: row[name] for name in names}, probability=probability)


def _read(path: Path) -> Plan | None:
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        ids, probabilities = tuple(found.pop("ids")), tuple(found.pop("probabilities"))
        return Plan(ids=ids, probabilities=probabilities, **found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: not the plan of an audit ({str(error).splitlines()[0]}); name another folder "
            "with --labels"
        ) from error


def _write(path: Path, plan: Plan) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(json.dumps(asdict(plan), indent=1) + "\n", encoding="utf-8")
    aside.replace(path)
