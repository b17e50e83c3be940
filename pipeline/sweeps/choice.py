"""Which combination of a sweep is chosen, on dev prompts, and how far chance alone goes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.runs.run import Run
from pipeline.sweeps.grid import Point
from pipeline.sweeps.scores import noise_of, paired_with
from schemas.errors import MissingInputError
from schemas.manifest import read_manifest
from schemas.results.base import read_result
from schemas.results.win_rates import WinRates

_ACCURACY = "eval_rewards/accuracies"


@dataclass(frozen=True)
class Measured:
    """What one combination came to.

    Attributes:
        name, settings: which.
        value, ci_low, ci_high, n: the declared measure against the baseline; None without one.
        accuracy: of the policy's margins on held-out pairs, at the published step.
        difference: to the chosen one on the same prompts: value, ci_low, ci_high, p_value.
        seconds: of its training.
        directory: its run's.
    """

    name: str
    settings: Mapping[str, Any]
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    accuracy: float | None
    seconds: float | None
    directory: str
    difference: Mapping[str, float | None] | None = None


@dataclass(frozen=True)
class Choice:
    """The combinations, the chosen one, and the noise of training where seeds were repeated."""

    chosen: str
    why: str
    split: str
    rows: Sequence[Measured]
    noise: Mapping[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def choose(trained: Sequence[tuple[Point, Run, Run]]) -> Choice:
    """Choose among combinations: each by its point, its run, and the run that measured it.

    By the mean over seeds of the declared measure; without a win rate, of the held-out accuracy.
    Where only seeds differ nothing is chosen, and the first stands.

    Raises:
        MissingInputError: nothing was measured to choose by.
    """
    rows = [_measured(point, run, measured) for point, run, measured in trained]
    points = [point for point, _, _ in trained]
    settings = list(dict.fromkeys(_said(point.without_seed) for point in points))
    places = {s: [i for i, p in enumerate(points) if _said(p.without_seed) == s] for s in settings}
    evaluate: Any = trained[0][2].recipe.stages.get("evaluate")
    split = getattr(evaluate, "split", "") if evaluate is not None else ""
    if len(settings) == 1:
        best, why = settings[0], "only seeds differ: the first is published, none is chosen"
    else:
        best, why = _best(rows, places, split or "dev")
    first = places[best][0]
    seeds = [trained[place][2].directory for place in places[best]]
    compared = [
        _against(row, trained[i][2].directory, trained[first][2].directory)
        for i, row in enumerate(rows)
    ]
    return Choice(rows[first].name, why, split, compared, noise_of(seeds))


def _best(
    rows: Sequence[Measured], places: Mapping[str, Sequence[int]], split: str
) -> tuple[str, str]:
    for measure, words in (("value", f"win rate on {split} prompts"), ("accuracy", "accuracy")):
        means = {
            name: _mean(getattr(rows[place], measure) for place in found)
            for name, found in places.items()
        }
        known = {name: mean for name, mean in means.items() if mean is not None}
        if known:
            best = max(known, key=lambda name: known[name])
            held_out = words if measure == "value" else "accuracy on held-out pairs"
            return best, f"{best}: the highest {held_out}, {known[best]:.1%}, of {len(known)}"
    raise MissingInputError(
        "sweep: nothing to choose by: no win rate on dev prompts and no held-out pairs; add "
        "[evaluate] with a [judge], or hold pairs out"
    )


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None


def _said(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())


def _measured(point: Point, run: Run, measured: Run) -> Measured:
    path = measured.directory / "evaluate" / "win_rates.json"
    rates = read_result(path, WinRates) if path.is_file() else None
    judged = rates.get("judge") if rates is not None else None
    head = judged.headline if judged is not None else None
    train = read_manifest(run.directory / "train")
    return Measured(
        name=point.name,
        settings=point.settings,
        value=head.value if head else None,
        ci_low=head.ci_low if head else None,
        ci_high=head.ci_high if head else None,
        n=head.n if head else 0,
        accuracy=_accuracy(run.directory / "train"),
        seconds=train.provenance.wall_seconds if train else None,
        directory=str(run.directory),
    )


def _accuracy(folder: Path) -> float | None:
    """The held-out accuracy at the published step, off the training's summary."""
    try:
        final = json.loads((folder / "summary.json").read_text())["final"]
    except (OSError, ValueError, KeyError):
        return None
    value = final.get(_ACCURACY)
    return float(value) if isinstance(value, int | float) else None


def _against(row: Measured, own: Path, chosen: Path) -> Measured:
    found = None if own == chosen else paired_with(own, chosen)
    return Measured(**{**asdict(row), "difference": found})
