"""Floors that a judge must reach before anything is built on its verdicts."""

from pathlib import Path

from evals.judge_card.config import JudgeFloors
from schemas.errors import ConfigError
from schemas.results.base import Estimate, read_result
from schemas.results.judge_card import JudgeCard

CARD_FILE = "card.json"


def shortfalls(card: JudgeCard, floors: JudgeFloors) -> list[str]:
    """In words, each floor that the card's judge misses.

    One that asks for agreement or a small gap is missed where nothing was measured.
    """
    found = []
    least, most = floors.min_agreement, floors.max_position_gap
    unscored, share = card.unscored_rate, floors.max_unscored
    agreement, gap = card.accuracy, card.position_gap
    if least is not None and (agreement.value is None or agreement.value < least):
        found.append(f"agreement {_said(agreement)} is below min_agreement {least}")
    # Of ratings there is no order, and so no gap to be measured.
    if most is not None and not card.pointwise and (gap.value is None or abs(gap.value) > most):
        found.append(f"position gap {_said(gap)} is beyond max_position_gap {most}")
    failed = sum(unscored.by_reason.values())
    if share is not None and failed > share * unscored.n:
        why = ", ".join(f"{reason} {count:,}" for reason, count in unscored.by_reason.items())
        found.append(
            f"{failed:,} of {unscored.n:,} verdicts on held-out comparisons are unscored ({why})"
            f": more than max_unscored {share} allows"
        )
    return found


def refuse_below_floors(folder: Path, stage: str) -> None:
    """Refuse to go on with the judge of a judge stage's directory if it misses its floors.

    Args:
        folder: the judge stage's directory.
        stage: who refuses.

    Raises:
        ConfigError: a floor is missed; names it and the judge's own number.
    """
    path = folder / CARD_FILE
    missed = read_result(path, JudgeCard).below_floors if path.exists() else None
    if missed:
        raise ConfigError(
            f"{stage}: the judge is not good enough for this recipe: {'; '.join(missed)}; "
            "use a better judge, or change the floors in [judge]"
        )


def _said(found: Estimate) -> str:
    if found.value is None:
        return "(not measured)"
    return (
        f"{found.value:.3f} [{found.ci_low:.3f}, {found.ci_high:.3f}] "
        f"on {found.n:,} held-out comparisons"
    )
