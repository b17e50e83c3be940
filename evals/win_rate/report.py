"""All that one judge's verdicts say of two policies: rates side by side, the verdict, warnings."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from evals.statistics.means import mean
from evals.win_rate import detectors
from evals.win_rate.criteria import criterion_rates, rated_sides, without_reference
from evals.win_rate.headline import headline
from evals.win_rate.length_control import length_controlled
from evals.win_rate.lengths import LIKE_LENGTH, LengthSample, length_matched
from evals.win_rate.logistic import Calibration
from evals.win_rate.unscored import unscored_verdicts
from evals.win_rate.win_rate import VerdictRow, prompt_scores, win_rate
from schemas.results.measures import Measure
from schemas.results.win_rates import (
    Finding,
    Headline,
    LengthControlled,
    LengthMatched,
    Rate,
    WinRateReport,
)

SIDES = ("policy", "baseline")


@dataclass(frozen=True)
class JudgedComparisons:
    """One judge's verdicts on policy (A) against baseline (B), and what is known beside them.

    Attributes:
        verdicts: VERDICTS rows of one judge.
        texts: comparison_id -> text of the policy, of the baseline; empty where not kept.
        lengths: comparison_id -> characters of the policy's text, of the baseline's.
        categories: prompt_id -> category.
        finish_reasons: side -> "stop" or "length" of each completion.
        difficulty: prompt_id -> difficulty of the prompt, in logits.
        calibration: further rows of the length-controlled regression.
        judge_model: name of the judge's model, where it is one.
        policy_model: name of the policy.
        until_settled: prompts were judged until the headline was settled.
    """

    verdicts: Sequence[VerdictRow]
    texts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    lengths: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    categories: Mapping[str, str | None] = field(default_factory=dict)
    finish_reasons: Mapping[str, Sequence[str]] = field(default_factory=dict)
    difficulty: Mapping[str, float] | None = None
    calibration: Calibration | None = None
    judge_model: str = ""
    policy_model: str = ""
    until_settled: bool = False


def win_rate_report(judged: JudgedComparisons, measure: Measure = "win_rate") -> WinRateReport:
    """The report; the same verdicts give the same bits.

    Args:
        judged: verdicts of one judge, and texts or lengths where they are known.
        measure: the headline, declared beforehand; the verdict is taken from it.

    Raises:
        ValueError: no verdicts, or those of several judges.
    """
    stopped = judged.until_settled
    rate = win_rate(judged.verdicts, until_settled=stopped)
    sample = length_sample(judged)
    controlled = _NO_LENGTHS if sample is None else length_controlled(sample, judged.calibration)
    matched = _NONE_MATCHED if sample is None else length_matched(sample)
    decides = headline(measure, judged.verdicts, controlled, until_settled=stopped)
    return WinRateReport(
        **dict(rate)
        | {
            "verdict": decides.verdict,
            "minimum_detectable_effect": decides.minimum_detectable_effect,
            "prompts_to_settle": decides.prompts_to_settle,
        },
        statement=decides.statement,
        headline=decides,
        discrete=_rate(headline("discrete", judged.verdicts, controlled, until_settled=stopped)),
        length_controlled=controlled,
        length_matched=matched,
        detectors=findings(judged, controlled),
        criteria=criterion_rates(judged.verdicts),
        mean_ratings=rated_sides(judged.verdicts),
        n_without_reference=without_reference(judged.verdicts),
    )


def _rate(taken: Headline) -> Rate:
    """A measure in the form that length-controlled and length-matched rates have."""
    return Rate(
        n=taken.n,
        win_rate=taken.value,
        standard_error=taken.standard_error,
        ci_low=taken.ci_low,
        ci_high=taken.ci_high,
    )


def length_sample(judged: JudgedComparisons) -> LengthSample | None:
    """Scores and lengths of the scored prompts, each the mean of its comparisons; None without."""
    scores = prompt_scores(judged.verdicts)
    lengths: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for row in judged.verdicts:
        if (found := judged.lengths.get(row["comparison_id"])) is not None:
            lengths[row["prompt_id"]][row["comparison_id"]] = found
    if not scores or scores.keys() - lengths.keys():
        return None
    sides = np.array(
        [
            [mean([both[side] for both in lengths[prompt].values()]) for prompt in scores]
            for side in (0, 1)
        ],
        dtype=np.float64,
    )
    known = judged.difficulty
    return LengthSample(
        scores=np.array([*scores.values()], dtype=np.float64),
        policy_lengths=sides[0],
        baseline_lengths=sides[1],
        difficulty=None if known is None else np.array([known[prompt] for prompt in scores]),
    )


def findings(judged: JudgedComparisons, controlled: LengthControlled) -> list[Finding]:
    """What the detectors have to say, in a fixed order."""
    found = [detectors.same_family(judged.judge_model, judged.policy_model)]
    for index, side in enumerate(SIDES):
        # Neighbours by id are of unrelated prompts.
        texts = [judged.texts[key][index] for key in sorted(judged.texts)]
        lengths = [judged.lengths[key][index] for key in sorted(judged.lengths)]
        found += [
            detectors.constant_outputs(side, texts)
            if texts
            else detectors.constant_lengths(side, lengths),
            detectors.empty_outputs(side, texts),
            detectors.truncated_outputs(side, judged.finish_reasons.get(side, ())),
            detectors.judge_markers(side, texts),
        ]
    found.append(unscored_verdicts(judged.verdicts, judged.lengths))
    if judged.until_settled:
        found.append(_stopped_early(len({row["prompt_id"] for row in judged.verdicts})))
    found.append(detectors.order_imbalance(judged.verdicts, judged.categories))
    if controlled.overlap is not None:
        found.append(detectors.thin_length_overlap(controlled.overlap))
    return [finding for finding in found if finding is not None]


def _stopped_early(n: int) -> Finding:
    return Finding(
        name="judged_until_settled",
        detail=f"{n:,} prompts were judged, until it was settled: win rate and discrete win rate "
        "have the wider intervals that this takes; all others, and those of categories, are of a "
        "number fixed beforehand, and too narrow here",
        numbers={"n": n},
    )


_NO_LENGTHS = LengthControlled(n=0, reason="there is no scored prompt whose lengths are known")
_NONE_MATCHED = LengthMatched(tolerance=LIKE_LENGTH, n=0)
