"""What the two orders of a judge say together."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.labels import LabelProbabilities, Preference, Unscored, Verdict


def mean_of(verdicts: Sequence[LabelProbabilities]) -> LabelProbabilities:
    """Mean of the orders' probabilities; the soft score of DESIGN section 6."""
    n = len(verdicts)
    return LabelProbabilities(
        p_a=sum(v.p_a for v in verdicts) / n,
        p_b=sum(v.p_b for v in verdicts) / n,
        p_tie=sum(v.p_tie for v in verdicts) / n,
    )


@dataclass(frozen=True)
class Resolution:
    """What two orders say together.

    `label` is A or B where they agree clearly enough, Tie where their mean is a tie, None where
    they say nothing usable. `reason` is None for A and B, and says why otherwise: `tie`,
    `inconsistent`, `low_margin`, `unscored_<reason>`. `margin` is |p_a - p_b| of the mean, None
    where an order is unscored.
    """

    label: Preference | None
    margin: float | None = None
    reason: str | None = None

    @property
    def usable(self) -> bool:
        """Whether a preference pair may be made of it."""
        return self.reason is None


def resolve(ab: Verdict, ba: Verdict, min_margin: float = 0.0) -> Resolution:
    """Join the verdicts of both orders, each already about the comparison's own A and B.

    A side wins where it is ahead in both orders and its mean lead is at least `min_margin`. A
    judge that follows the position alone is `inconsistent`, not a tie. Exchanging A and B in both
    verdicts exchanges the label and changes nothing else.
    """
    failures = sorted(v.reason for v in (ab, ba) if isinstance(v, Unscored))
    if isinstance(ab, Unscored) or isinstance(ba, Unscored):
        return Resolution(None, reason=f"unscored_{failures[0]}")
    mean = mean_of([ab, ba])
    leads = (ab.p_a - ab.p_b, ba.p_a - ba.p_b)
    margin = min(1.0, abs(mean.p_a - mean.p_b))
    if ab.preference is ba.preference is Preference.TIE:
        return Resolution(Preference.TIE, margin, "tie")
    if min(leads) < 0 < max(leads):
        return Resolution(None, margin, "inconsistent")
    if mean.preference is Preference.TIE:
        return Resolution(Preference.TIE, margin, "tie")
    if 0 in leads:
        return Resolution(None, margin, "inconsistent")
    if margin < min_margin:
        return Resolution(None, margin, "low_margin")
    return Resolution(mean.preference, margin)
