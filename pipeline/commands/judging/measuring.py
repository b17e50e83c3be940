"""What the judge-card command measures: a judge that is asked, or verdicts that were saved."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.files import judge_bench
from evals.files.external_files import choose, read_columns
from evals.files.labelled import LabelledFile, read_labelled
from evals.judge_card.attacks import attack_cost, attack_table
from evals.judge_card.card import build_card
from evals.judge_card.subsets import Member
from evals.judges.interface import release
from evals.judges.judge_spec import named_judge
from evals.judges.orders import judge_in_order
from evals.judges.ratings.charging import charged_once
from pipeline.display.progress import make_progress
from pipeline.display.terminal_text import say
from schemas.errors import ConfigError
from schemas.labels import BOTH_ORDERS
from schemas.parquet import read_rows
from schemas.results.judge_card import Attack
from schemas.stage import Runtime
from schemas.tables import VERDICTS

__all__ = ["asked", "attacked", "build_card", "read_labelled", "saved"]


def asked(
    judge: str | None, labelled: LabelledFile, limit: int | None
) -> Sequence[Mapping[str, Any]]:
    """Ask a judge about all comparisons, in both orders."""
    if judge is None:
        raise ConfigError("--judge: say which judge, as in --judge length; or give --verdicts")
    opened = named_judge(judge, Runtime())
    shown = [unit.comparison for unit in labelled.comparisons[:limit]]
    rows: list[dict[str, Any]] = []
    with make_progress().task(f"verdicts by {opened.name}", 2 * len(shown), "verdicts") as task:
        for order in BOTH_ORDERS:
            for start in range(0, len(shown), 256):
                rows += judge_in_order(opened, shown[start : start + 256], order)
                task.advance(len(shown[start : start + 256]))
    return charged_once(rows)


def members_of_file(labelled: LabelledFile) -> dict[str, list[Member]]:
    """Of each comparison the scenario, task or data set that the file says."""
    return {
        id_: [("source", name, None)] for id_, name in labelled.sources.items() if name is not None
    }


def attacked(judge: str, labelled: LabelledFile, pairs: int) -> list[Attack]:
    """The attack table, its price said before it is paid."""
    opened = named_judge(judge, Runtime())
    shown = [unit.comparison for unit in labelled.comparisons]
    cost = attack_cost(opened, shown, pairs)
    if cost:
        say(f"attacks: about {cost:.4g} in the unit of the prices", err=True)
    try:
        return attack_table(opened, shown, pairs, make_progress())
    finally:
        release(opened)


def saved(path: Path, judge: str | None) -> Sequence[Mapping[str, Any]]:
    """One judge's verdicts from a file of ours or of JudgeBench's."""
    if set(judge_bench.COLUMNS) <= set(read_columns(path, ()).column_names):
        return judge_bench.read_judgements(path, judge)
    rows = read_rows(path, VERDICTS)
    chosen = choose(path, "judge", [row["judge"] for row in rows], judge)
    return [row for row in rows if row["judge"] == chosen]
