"""Win rates of a frame of verdicts, or of scores."""

from dataclasses import dataclass
from typing import Any

from evals.win_rate.win_rate import win_rate as win_rate_of_verdicts
from prefline.frames import Frame, Row, require, rows_of
from schemas.errors import ConfigError, DataError

_VERDICTS = ("comparison_id", "prompt_id", "judge", "order", "verdict", "p_a", "p_b", "p_tie")
_SCORES = ("prompt_id", "score")


@dataclass(frozen=True)
class WinRate:
    """A win rate in [0, 1] with its 95% interval over `n` prompts.

    `conclusion` is `better`, `worse` or `cannot tell`, against one half. `unscored` rows have no
    score and stay out of the rate, which is None where nothing was scored.
    """

    rate: float | None
    ci_low: float
    ci_high: float
    n: int
    conclusion: str
    wins: int
    losses: int
    ties: int
    unscored: int

    def __str__(self) -> str:
        if self.rate is None:
            return f"nothing scored ({self.unscored} unscored)"
        return (
            f"{self.conclusion}: {self.rate:.1%} (95% interval {self.ci_low:.1%} to "
            f"{self.ci_high:.1%}, {self.n} prompts, {self.unscored} unscored)"
        )


def win_rate(frame: Frame, judge: str | None = None) -> WinRate:
    """The win rate of the policy over its baseline.

    Args:
        frame: verdicts as our tables have them (A is the policy), or `prompt_id` and `score`: 1 the
            policy wins, 0.5 a tie, 0 it loses, null unscored. Several rows of a prompt count as
            one, by their mean.
        judge: whose verdicts, where there are several judges'.

    Raises:
        DataError: a column is missing, a score is none, or there are no rows.
        ConfigError: verdicts of several judges and none is named, or not this one's.
    """
    rows, columns = rows_of(frame)
    if "score" in columns or "verdict" not in columns:
        require(columns, _SCORES, "win_rate")
        verdicts = [_verdict(number, row) for number, row in enumerate(rows)]
    else:
        require(columns, _VERDICTS, "win_rate")
        verdicts = _of_one_judge(rows, judge)
    if not verdicts:
        raise DataError("win_rate: the frame has no rows")
    found = win_rate_of_verdicts(verdicts)
    return WinRate(
        rate=found.win_rate,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        n=found.n,
        conclusion=found.verdict,
        wins=found.n_wins,
        losses=found.n_losses,
        ties=found.n_ties,
        unscored=found.n_unscored,
    )


def _of_one_judge(rows: list[Row], judge: str | None) -> list[Row]:
    names = sorted({str(row["judge"]) for row in rows})
    if judge is None and len(names) > 1:
        raise ConfigError(f"win_rate: verdicts of several judges; name one: {', '.join(names)}")
    if judge is not None and judge not in names:
        raise ConfigError(f"win_rate: no verdicts by {judge!r}, only by {', '.join(names)}")
    chosen = [row for row in rows if judge is None or row["judge"] == judge]
    return [{"judge_fingerprint": "", "raw": "", "unscored_reason": None} | row for row in chosen]


def _verdict(number: int, row: Row) -> dict[str, Any]:
    """A score as a verdict in one order."""
    score = row["score"]
    if row["prompt_id"] is None:
        raise DataError(f"win_rate: row {number}: prompt_id is null")
    if score is not None and not (isinstance(score, int | float) and 0 <= score <= 1):
        raise DataError(
            f"win_rate: row {number}: score is {score!r}, must be between 0 and 1, or null"
        )
    tie = score == 0.5
    label = None if score is None else "Tie" if tie else "A" if score > 0.5 else "B"
    return {
        "comparison_id": f"{row['prompt_id']}/{number}",
        "prompt_id": str(row["prompt_id"]),
        "judge": "scores",
        "judge_fingerprint": "",
        "order": "ab",
        "p_a": None if score is None else 0.0 if tie else float(score),
        "p_b": None if score is None else 0.0 if tie else 1 - float(score),
        "p_tie": None if score is None else float(tie),
        "verdict": label,
        "unscored_reason": "null score" if score is None else None,
        "raw": "",
    }
