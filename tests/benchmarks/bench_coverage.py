"""Do the intervals hold what they promise? Measured on resampled real preferences.

Each model's published preferences stand for a population whose rate is known. Prompts are drawn
from it with replacement, and it is counted how often the 95% interval holds that rate. Writes
results/coverage.json beside this file.
"""

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from evals.files.alpaca_eval.regression import read_calibration
from evals.files.alpaca_eval.verdicts import read_annotations
from evals.statistics.intervals import wilson_effective
from evals.statistics.means import clustered_standard_error, mean, standard_error
from evals.win_rate.length_control import length_controlled
from evals.win_rate.lengths import LengthSample
from evals.win_rate.logistic import Calibration
from evals.win_rate.report import length_sample

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("PREFLINE_REAL_DATA", ROOT.parent / "shared" / "data"))
RESULT = Path(__file__).parent / "results" / "coverage.json"

SIZES = (50, 100, 200, 400, 805)
REPEATS = 1000
CONTROLLED_MODELS = ("FuseChat-Gemma-2-9B-Instruct", "claude-2", "OpenHermes-2.5-Mistral-7B")
CONTROLLED_REPEATS = 150
SPREAD_REPEATS = 1200
LONG_BOOTSTRAP = 4000
ARENA_HARD_WEIGHTS = {"A>>B": (1.0, 3), "A>B": (1.0, 1), "A=B": (0.5, 1), "B>A": (0.0, 1)}
ARENA_HARD_WEIGHTS["B>>A"] = (0.0, 3)

Row = dict[str, Any]
Populations = dict[str, LengthSample]


def populations() -> tuple[Populations, Calibration]:
    """Every model's scores, lengths and difficulties, and the calibration rows."""
    folder = DATA / "alpacaeval2"
    annotations = folder / "annotations.parquet"
    samples: Populations = {}
    for model in sorted(set(pq.read_table(annotations, columns=["model"])["model"].to_pylist())):
        judged = read_annotations(annotations, model, folder / "instructions.parquet", folder)
        sample = length_sample(judged)
        assert sample is not None
        samples[model] = sample
    return samples, read_calibration(folder)


def drawn(sample: LengthSample, n: int, generator: np.random.Generator) -> LengthSample:
    """n prompts of a population, with replacement."""
    rows = generator.integers(0, sample.n, size=n)
    assert sample.difficulty is not None
    return LengthSample(
        sample.scores[rows],
        sample.policy_lengths[rows],
        sample.baseline_lengths[rows],
        sample.difficulty[rows],
    )


def win_rate_coverage(samples: Populations) -> Iterator[Row]:
    """Coverage of the win rate's interval, soft scores, for every model and size."""
    for model, sample in samples.items():
        truth = float(sample.scores.mean())
        for n in SIZES:
            generator = np.random.default_rng([0, n])
            found = [_interval(drawn(sample, n, generator).scores.tolist()) for _ in range(REPEATS)]
            yield {"model": model, "n": n, "true_rate": truth} | _coverage(found, truth)


def _interval(scores: list[float]) -> tuple[float, float]:
    return wilson_effective(mean(scores), standard_error(scores) or np.nan, len(scores))


def length_controlled_coverage(samples: Populations, calibration: Calibration) -> Iterator[Row]:
    """Coverage of the length-controlled rate's interval, its regression refitted every time.

    With 200 prompts the calibration rows weigh nearly as much as the prompts and pull the rate away
    from the one of the whole population: measured, and not promised.
    """
    for model in CONTROLLED_MODELS:
        truth = length_controlled(samples[model], calibration, draws=2).win_rate
        assert truth is not None
        for n in (200, 805):
            generator = np.random.default_rng([1, n])
            found = []
            for repeat in range(CONTROLLED_REPEATS):
                sample = drawn(samples[model], n, generator)
                fit = length_controlled(sample, calibration, seed=repeat)
                if fit.ci_low is not None and fit.ci_high is not None:
                    found.append((fit.ci_low, fit.ci_high))
            failed = {"unfitted": CONTROLLED_REPEATS - len(found)}
            yield {"model": model, "n": n, "true_rate": truth} | _coverage(found, truth) | failed


def length_controlled_spread(samples: Populations, calibration: Calibration) -> Iterator[Row]:
    """The bootstrap's error against the spread of the rate over fresh draws, and its bias.

    One fit per draw instead of a bootstrap: many more draws than coverage can afford, and so far
    less noise in the answer.
    """
    for model in CONTROLLED_MODELS:
        truth = length_controlled(samples[model], calibration, draws=2).win_rate
        assert truth is not None
        for n in (200, 805):
            generator = np.random.default_rng([2, n])
            fresh = [drawn(samples[model], n, generator) for _ in range(SPREAD_REPEATS)]
            fits = [length_controlled(one, calibration, draws=2).win_rate for one in fresh]
            rates = np.array([rate for rate in fits if rate is not None])
            errors = [length_controlled(one, calibration).standard_error for one in fresh[:25]]
            spread = float(rates.std(ddof=1))
            intervals = [wilson_effective(rate, spread, n) for rate in rates.tolist()]
            yield {
                "model": model,
                "n": n,
                "true_rate": truth,
                "draws": len(rates),
                "spread": spread,
                "error_by_spread": mean([e for e in errors if e is not None]) / spread,
                "bias_by_spread": (float(rates.mean()) - truth) / spread,
                "coverage_at_the_spread": _coverage(intervals, truth)["coverage"],
            }


def _coverage(found: list[tuple[float, float]], truth: float) -> Row:
    inside = sum(low <= truth <= high for low, high in found)
    coverage = inside / len(found)
    return {
        "repeats": len(found),
        "coverage": coverage,
        "simulation_error": math.sqrt(coverage * (1 - coverage) / len(found)),
        "mean_width": mean([high - low for low, high in found]),
    }


def bootstrap_errors(samples: Populations, calibration: Calibration) -> Iterator[Row]:
    """The shipped number of draws against a bootstrap that is ten times as long."""
    for model, sample in samples.items():
        short = length_controlled(sample, calibration).standard_error
        long = length_controlled(sample, calibration, draws=LONG_BOOTSTRAP, seed=1).standard_error
        assert short is not None
        assert long is not None
        yield {"model": model, "short": short, "long": long, "ratio": short / long}


def clustering() -> Iterator[Row]:
    """Arena-Hard's score rows, each order and weight a row: naive error against that by prompt."""
    rows = pq.read_table(DATA / "judging" / "judgebench_judgments.parquet").to_pylist()
    for judge in ("o1-mini-2024-09-12", "claude-3-haiku-20240307"):
        scores: list[float] = []
        clusters: list[str] = []
        for row in rows:
            if row["judge"] != judge or row["verdict_last"] is None:
                continue
            score, weight = ARENA_HARD_WEIGHTS[row["verdict_last"]]
            scores += [1 - score if row["shown_A_is"] == "B" else score] * weight
            clusters += [row["pair_id"]] * weight
        naive, clustered = standard_error(scores), clustered_standard_error(scores, clusters)
        assert naive is not None
        yield {
            "judge": judge,
            "score_rows": len(scores),
            "prompts": len(set(clusters)),
            "naive": naive,
            "clustered": clustered,
            "ratio": clustered / naive,
        }


def verdicts(result: dict[str, list[Row]]) -> dict[str, bool]:
    """The promises, and whether they are kept."""
    within = [r for r in result["win_rate"] if r["n"] >= 200 and r["true_rate"] >= 0.09]
    return {
        "win_rate_coverage_93_to_97_from_200_prompts_and_9_percent": all(
            0.93 <= r["coverage"] <= 0.97 for r in within
        ),
        "length_controlled_coverage_93_to_97_at_805_prompts_by_two_simulation_errors": all(
            0.93 - 2 * r["simulation_error"] <= r["coverage"] <= 0.97 + 2 * r["simulation_error"]
            for r in result["length_controlled"]
            if r["n"] == 805
        ),
        "length_controlled_error_within_5_percent_of_the_spread_and_unbiased_at_805_prompts": all(
            abs(r["error_by_spread"] - 1) <= 0.05
            and abs(r["bias_by_spread"]) <= 0.1
            and 0.93 <= r["coverage_at_the_spread"] <= 0.97
            for r in result["length_controlled_spread"]
            if r["n"] == 805
        ),
        "bootstrap_error_within_15_percent": all(
            abs(r["ratio"] - 1) <= 0.15 for r in result["bootstrap"]
        ),
        "clustered_error_above_1_4_times_naive": all(
            r["ratio"] > 1.4 for r in result["clustering"]
        ),
    }


def rounded(value: Any) -> Any:
    """Numbers to five digits, so that the file can be read."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value


def main() -> int:
    """Measure, write, and say what holds; 1 where a promise is broken."""
    if not DATA.is_dir():
        sys.stderr.write(f"error: no real data at {DATA}; set PREFLINE_REAL_DATA\n")
        return 2
    start = time.monotonic()
    samples, calibration = populations()
    result = {
        "win_rate": list(win_rate_coverage(samples)),
        "length_controlled": list(length_controlled_coverage(samples, calibration)),
        "length_controlled_spread": list(length_controlled_spread(samples, calibration)),
        "bootstrap": list(bootstrap_errors(samples, calibration)),
        "clustering": list(clustering()),
    }
    kept = verdicts(result)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(rounded({"kept": kept, **result}), indent=1) + "\n")
    for promise, holds in kept.items():
        sys.stdout.write(f"{'holds ' if holds else 'BROKEN'} {promise.replace('_', ' ')}\n")
    sys.stdout.write(f"{RESULT.relative_to(ROOT)} in {time.monotonic() - start:.0f} s\n")
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
