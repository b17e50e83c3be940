"""Where nobody has labelled: what the judge's errors, by its card, could do to its win rate."""

from evals.statistics.judge_errors import corrected_rate
from schemas.results.judge_card import JudgeCard
from schemas.results.report import JudgeErrors
from schemas.results.win_rates import JudgeWinRate
from stages.report.page.text import percent


def judge_errors(rate: JudgeWinRate, card: JudgeCard | None) -> JudgeErrors | None:
    """The diagnostic; None with labels, without a card of this judge, or without a rate."""
    if card is None or card.judge != rate.judge or rate.human or rate.win_rate is None:
        return None
    wins, losses, seen = _seen(card.test if card.test and card.test.n_scored else card)
    if not wins or not losses or rate.standard_error is None:
        return None
    right = seen / (wins + losses)
    found = corrected_rate(rate.win_rate, rate.standard_error, right, wins, losses, rate.n)
    said = f"A judge that sees {percent(right)} of true wins and losses as such"
    if found is None:
        said += " is too near to a coin for its win rate to say what the true one is."
        return JudgeErrors(right=right, n_labels=wins + losses, statement=said)
    said += (
        f" would say {percent(rate.win_rate)} where the true win rate is {percent(found.value)} "
        f"({percent(found.ci_low)} to {percent(found.ci_high)}), if it errs here as on its labels: "
        "a diagnostic, no estimate; labels of people would tell."
    )
    return JudgeErrors(**dict(found), right=right, n_labels=wins + losses, statement=said)


def _seen(card: JudgeCard) -> tuple[int, int, float]:
    """True wins of A, true losses, and how many of both the judge sees; a tie said is half."""
    by_label = {label: card.confusion.get(label, {}) for label in ("A", "B")}
    wins, losses = (sum(row.values()) for row in by_label.values())
    seen = sum(row.get(label, 0) + row.get("Tie", 0) / 2 for label, row in by_label.items())
    return wins, losses, seen
