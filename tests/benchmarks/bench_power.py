"""What the power formula promises, and what looking early costs. Writes results/power.json.

Power: at the smallest detectable effect of n prompts a test of Wilson's interval finds it in four
of five; over sizes, hard verdicts (exactly, by the binomial), verdicts with ties and soft scores
(drawn). Looks: how often evaluations at one half end in a conclusion where one looks after every
prompt, by the always-valid interval and by the fixed one, and when the former stops elsewhere.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evals.statistics.intervals import wilson_effective
from evals.statistics.power import detectable_effect
from evals.statistics.sequences import RICH, log_fortune

RESULT = Path(__file__).parent / "results" / "power.json"
SIZES = (60, 80, 100, 150, 200, 300, 400, 600, 805)
DRAWS = 10_000
EVALUATIONS = 4000
PROMPTS = 805
TIES = 0.4
SPREAD = 0.2

Row = dict[str, Any]
Array = npt.NDArray[np.float64]


def powers() -> Iterator[Row]:
    """One per size and kind of score."""
    for n in SIZES:
        yield {"scores": "hard", "n": n} | hard_power(n)
        yield {"scores": "ties", "n": n} | _drawn_power(n, _ties, math.sqrt(0.25 * (1 - TIES)))
        yield {"scores": "soft", "n": n} | _drawn_power(n, _soft, SPREAD)


def hard_power(n: int) -> Row:
    """Exactly, by the binomial distribution of n verdicts at the effect."""
    effect = detectable_effect(0.5, 0.5 / math.sqrt(n), n) or 0.0
    rate = 0.5 + effect
    power = 0.0
    for wins in range(n + 1):
        seen = wins / n
        if _better(seen, math.sqrt(seen * (1 - seen) / (n - 1)), n):
            chance = math.lgamma(n + 1) - math.lgamma(wins + 1) - math.lgamma(n - wins + 1)
            power += math.exp(chance + wins * math.log(rate) + (n - wins) * math.log(1 - rate))
    return {"effect": effect, "power": power}


def _drawn_power(n: int, draw: Callable[[float, int], Array], spread: float) -> Row:
    effect = detectable_effect(0.5, spread / math.sqrt(n), n) or 0.0
    scores = draw(0.5 + effect, n)
    errors = scores.std(axis=1, ddof=1) / math.sqrt(n)
    found = [
        _better(float(r), float(e), n) for r, e in zip(scores.mean(axis=1), errors, strict=True)
    ]
    return {"effect": effect, "power": sum(found) / DRAWS}


def _better(rate: float, error: float, n: int) -> bool:
    return wilson_effective(rate, error, n)[0] > 0.5


def _ties(rate: float, n: int) -> Array:
    generator = np.random.default_rng([n, 1])
    won = rate - TIES / 2
    return generator.choice([1.0, 0.5, 0.0], size=(DRAWS, n), p=[won, TIES, 1 - TIES - won])


def _soft(rate: float, n: int) -> Array:
    weight = 0.25 / SPREAD**2 - 1
    return np.random.default_rng([n, 2]).beta(weight * rate, weight * (1 - rate), size=(DRAWS, n))


def looks() -> Iterator[Row]:
    """One per kind of score at one half, and per rate elsewhere, 805 looks each."""
    generator = np.random.default_rng(5)
    shape = (EVALUATIONS, PROMPTS)
    even = {
        "hard": (generator.random(shape) < 0.5).astype(float),
        "ties": generator.choice([0.0, 0.5, 1.0], size=shape, p=[0.3, 0.4, 0.3]),
        "mostly ties": generator.choice([0.0, 0.5, 1.0], size=shape, p=[0.03, 0.94, 0.03]),
        "soft": generator.beta(2.5, 2.5, size=shape),
        "lopsided": generator.choice([0.3, 1.0], size=shape, p=[5 / 7, 2 / 7]),
    }
    for name, scores in even.items():
        told = _richest(scores).max(axis=1) > RICH
        yield {"scores": name, "rate": 0.5, "told": float(told.mean()), "fixed": _fixed(scores)}
    for rate in (0.52, 0.55, 0.6, 0.65, 0.7, 0.8):
        rich = log_fortune((generator.random(shape) < rate).astype(float), 0.5) > RICH
        first = np.where(rich.any(axis=1), rich.argmax(axis=1) + 1, PROMPTS)
        yield {
            "scores": "hard",
            "rate": rate,
            "told": float(rich.any(axis=1).mean()),
            "median_prompts": float(np.median(first)),
            "mean_prompts": float(first.mean()),
        }


def _richest(scores: Array) -> Array:
    return np.maximum(log_fortune(scores, 0.5), log_fortune(1 - scores, 0.5))


def _fixed(scores: Array) -> float:
    """How often some look from 30 prompts on finds a fixed 95% interval beside one half."""
    n = np.arange(1, PROMPTS + 1)
    means = np.cumsum(scores, axis=1) / n
    squares = np.cumsum(scores**2, axis=1)
    spread = np.sqrt(np.maximum(squares / n - means**2, 1e-12))
    beside = np.abs(means - 0.5) > 1.96 * spread / np.sqrt(n)
    return float(beside[:, 29:].any(axis=1).mean())


def kept(rows: list[Row], seen: list[Row]) -> Row:
    """What is promised: steps are coarse for few hard verdicts, and nowhere else."""
    coarse = [r["power"] for r in rows if r["scores"] == "hard" and r["n"] < 400]
    fine = [r["power"] for r in rows if r["scores"] == "soft" or r["n"] >= 400]
    worst = max(r["told"] for r in seen if r["rate"] == 0.5)
    return {
        "hard_below_400": [min(coarse), max(coarse)],
        "else": [min(fine), max(fine)],
        "worst_error_of_any_looks": worst,
        "holds": min(coarse) >= 0.77
        and max(coarse) <= 0.84
        and min(fine) >= 0.78
        and max(fine) <= 0.82
        and worst <= 0.05,
    }


def main() -> int:
    """Measure, write, and say what holds; 1 where a promise is broken."""
    rows, seen = list(powers()), list(looks())
    found = kept(rows, seen)
    shown = {
        name: [{k: round(v, 4) if isinstance(v, float) else v for k, v in r.items()} for r in cells]
        for name, cells in (("power", rows), ("looks", seen))
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"kept": found, **shown}, indent=1) + "\n")
    for row in (*shown["power"], *shown["looks"]):
        sys.stdout.write(f"{row}\n")
    sys.stdout.write(f"{found}\n")
    return 0 if found["holds"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
