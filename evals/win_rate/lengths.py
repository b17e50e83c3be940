"""How long both sides of the comparisons are, and the win rate where they are as long.

One row per prompt, lengths in characters.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evals.statistics.intervals import wilson_effective
from evals.statistics.means import mean, standard_error
from schemas.results.win_rates import LengthMatched, Overlap

Array = npt.NDArray[np.float64]

LIKE_LENGTH = 0.2
"""Two completions are of like length where they differ by at most this share of the longer one."""

THIN_OVERLAP = 0.1
"""Where fewer prompts than this share have completions of like length, the rate extrapolates."""


@dataclass(frozen=True)
class LengthSample:
    """One row per prompt, in the order of prompt ids.

    Attributes:
        scores: of the policy, in [0, 1], (n,).
        policy_lengths: characters of the policy's completion, (n,).
        baseline_lengths: characters of the baseline's completion, (n,).
        difficulty: of the prompt, in logits, (n,); None where it is not known.
    """

    scores: Array
    policy_lengths: Array
    baseline_lengths: Array
    difficulty: Array | None = None

    @property
    def n(self) -> int:
        """The number of prompts."""
        return len(self.scores)

    @property
    def shortfall(self) -> Array:
        """Characters by which the policy's completion is shorter: (n,)."""
        return self.baseline_lengths - self.policy_lengths


def length_overlap(sample: LengthSample) -> Overlap:
    """How alike in length the two sides are, over at least one prompt; see `Overlap`."""
    baseline = float(sample.baseline_lengths.mean())
    share = float(_like_length(sample, LIKE_LENGTH).mean())
    spread = float(sample.shortfall.std(ddof=1)) if sample.n > 1 else 0.0
    return Overlap(
        share_of_like_length=share,
        mean_tanh=float(np.tanh(sample.shortfall / spread).mean()) if spread else None,
        length_ratio=float(sample.policy_lengths.mean()) / baseline if baseline else None,
        thin=share < THIN_OVERLAP,
    )


def length_matched(sample: LengthSample, tolerance: float = LIKE_LENGTH) -> LengthMatched:
    """The win rate over prompts whose lengths differ by at most `tolerance` of the longer one."""
    scores = sample.scores[_like_length(sample, tolerance)].tolist()
    if not scores:
        return LengthMatched(tolerance=tolerance, n=0)
    rate, error = mean(scores), standard_error(scores)
    low, high = wilson_effective(rate, np.nan if error is None else error, len(scores))
    return LengthMatched(
        tolerance=tolerance,
        n=len(scores),
        win_rate=rate,
        standard_error=error,
        ci_low=low,
        ci_high=high,
    )


def _like_length(sample: LengthSample, tolerance: float) -> npt.NDArray[np.bool_]:
    longer = np.maximum(sample.policy_lengths, sample.baseline_lengths)
    like: npt.NDArray[np.bool_] = np.abs(sample.shortfall) <= tolerance * longer
    return like
