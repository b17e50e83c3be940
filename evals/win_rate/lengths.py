"""How long both sides of the comparisons are, and the win rate where they are as long.

One row per prompt, lengths in characters.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evals.statistics.intervals import wilson_effective
from evals.win_rate.win_rate import mean, standard_error

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


@dataclass(frozen=True)
class Overlap:
    """How much of the data lies where a length-controlled rate is read off.

    `share_of_like_length`: share of prompts with completions of like length.
    `mean_tanh`: mean of tanh(shortfall / std); near 1 the policy is shorter, near -1 longer, on all
    prompts. None where lengths do not vary.
    `length_ratio`: mean length of the policy over that of the baseline; None where that is 0.
    `thin`: the share is below `THIN_OVERLAP`: a length-controlled rate is an extrapolation.
    """

    share_of_like_length: float
    mean_tanh: float | None
    length_ratio: float | None
    thin: bool


@dataclass(frozen=True)
class LengthMatched:
    """The win rate over the prompts with completions of like length, in [0, 1].

    None where there is no such prompt; the error is None below two.
    """

    tolerance: float
    n: int
    win_rate: float | None
    standard_error: float | None
    ci_low: float | None
    ci_high: float | None

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)


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
        return LengthMatched(tolerance, 0, None, None, None, None)
    rate, error = mean(scores), standard_error(scores)
    interval = wilson_effective(rate, np.nan if error is None else error, len(scores))
    return LengthMatched(tolerance, len(scores), rate, error, *interval)


def _like_length(sample: LengthSample, tolerance: float) -> npt.NDArray[np.bool_]:
    longer = np.maximum(sample.policy_lengths, sample.baseline_lengths)
    like: npt.NDArray[np.bool_] = np.abs(sample.shortfall) <= tolerance * longer
    return like
