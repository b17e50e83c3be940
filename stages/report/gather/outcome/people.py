"""What people's labels make of a win rate: those the recipe names, or those an audit has left."""

from pathlib import Path

from evals.audit.labels import majority, read_labels
from evals.win_rate.human import human_win_rate
from schemas.errors import DataError
from schemas.results.report import Warned
from schemas.results.win_rates import HumanWinRate, JudgeWinRate
from schemas.stage import StageContext
from stages.report.config import AUDIT_LABELS, ReportConfig
from stages.report.gather.sources import Rows


class People:
    """The labels of a run, joined with verdicts one judge at a time.

    Labels that the recipe names must be of use. Those of an audit, which may have just begun or be
    of an evaluation before this one, are said to be of none, and why: the page is made without.
    """

    def __init__(self, config: ReportConfig, context: StageContext, verdicts: Rows) -> None:
        self._named = Path(config.labels) if config.labels else None
        self._path = self._named or context.beside(AUDIT_LABELS)
        self._context = context
        self._verdicts = verdicts
        self.warnings: list[Warned] = []

    def of(self, rate: JudgeWinRate) -> HumanWinRate | None:
        """The rate by this judge, by people, and by both; what evaluate wrote without labels.

        Raises:
            DataError, MissingInputError: labels that the recipe names cannot be used.
        """
        if self._path is None:
            return rate.human
        mine = [row for row in self._verdicts if row["judge"] == rate.judge]
        try:
            return human_win_rate(mine, read_labels(self._path), self._path)
        except DataError as error:
            if self._named:
                raise
            self._warn(str(error))
            return rate.human

    def said(self) -> dict[str, str]:
        """What most people said, by comparison; nothing where their labels cannot be read."""
        if self._path is None:
            return {}
        try:
            return dict(majority(read_labels(self._path)))
        except DataError as error:
            if self._named:
                raise
            self._warn(str(error))
            return {}

    def _warn(self, message: str) -> None:
        if message not in {warned.message for warned in self.warnings}:
            self.warnings.append(Warned(stage="report", message=message))
            self._context.progress.warn(message)
