"""Arena-Hard's leaderboards, from the judges' verdicts (T. Li et al., arXiv 2406.11939).

A copy of its repository has `data/NAME/model_judgment/JUDGE/MODEL.jsonl`, the answers that style
control reads, and the published tables: `README.md`, `misc/past_leaderboards.md`, and a CSV file
under `leaderboard/`. Scores are in percent. What was published with no number of ours beside it is
left out; a model without a published number is shown with none.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from evals.files.published.numbers import Files, Number
from evals.files.standards.arena_scores import Battles, arena_scores, outcomes_of
from evals.files.standards.style import Counts, counts_of, difference, published_counts
from schemas.errors import DataError
from schemas.results.win_rates import StandardScore

Row = Mapping[str, Any]

VERDICTS = "*arena-hard-*/model_judgment/*/*.jsonl"
_HINT = "give a copy of its repository with data/NAME/model_judgment/JUDGE/MODEL.jsonl in it"
_REDRAWN = 0.35
"""Percentage points: one digit is published, of the mean of a hundred redraws."""


@dataclass(frozen=True)
class _Table:
    """A published table: which set and category, by whom, whether style was controlled."""

    of: str
    judges: frozenset[str]
    controlled: bool
    scores: Mapping[str, float]


def arena_hard(files: Files) -> Iterator[Number]:
    """The score of every model that somebody has judged, plain and with style controlled.

    Raises:
        MissingInputError, DataError: no verdicts there, or files that are something else.
    """
    names = files.matching(VERDICTS, _HINT)
    tables = list(_published(files))
    folders = sorted({name.rpartition("/")[0] for name in names})
    for home in sorted({folder.rpartition("/model_judgment/")[0] for folder in folders}):
        styles = _Styles(files, home)
        for judges in _panels(home, folders):
            battles = [one for folder in judges.values() for one in _battles(files, folder, styles)]
            for score in arena_scores(battles):
                yield from _numbers(score, frozenset(judges), tables)


def _panels(home: str, folders: Sequence[str]) -> Iterator[dict[str, str]]:
    """Each judge alone, and all of a set together, as they were published for creative writing."""
    mine = {f.rpartition("/")[2]: f for f in folders if f.startswith(f"{home}/model_judgment/")}
    yield from ({judge: folder} for judge, folder in mine.items())
    if len(mine) > 1:
        yield mine


def _numbers(
    score: StandardScore, judges: frozenset[str], tables: Sequence[_Table]
) -> Iterator[Number]:
    group = f"{score.model}, {' and '.join(sorted(judges))}"
    for controlled, ours in ((False, score.score), (True, score.style_controlled)):
        if ours is None:
            continue
        what = f"{score.of}{', style controlled' if controlled else ''}"
        published = next(
            (
                table.scores[score.model.lower()]
                for table in tables
                if (table.of, table.judges, table.controlled) == (score.of, judges, controlled)
                and score.model.lower() in table.scores
            ),
            None,
        )
        yield Number(group, what, published, 100 * ours, _REDRAWN)


class _Styles:
    """How the answers of each model look, by the question; read once."""

    def __init__(self, files: Files, home: str) -> None:
        self._files, self._home = files, home
        self._known: dict[str, dict[str, Counts] | None] = {}

    def difference(self, model: str, baseline: str, key: str) -> Sequence[float] | None:
        """How a model's answer differs from the baseline's; None where one is not there."""
        one, other = self._of(model), self._of(baseline)
        if one is None or other is None or key not in one or key not in other:
            return None
        return difference(one[key], other[key])

    def _of(self, model: str) -> dict[str, Counts] | None:
        if model not in self._known:
            name = f"{self._home}/model_answer/{model}.jsonl"
            there = name in self._files.names
            self._known[model] = dict(_counts(self._files, name)) if there else None
        return self._known[model]


def _counts(files: Files, name: str) -> Iterator[tuple[str, Counts]]:
    for number, row in files.json_lines(name):
        try:
            known = published_counts(row["metadata"]) if row.get("metadata") else None
            yield _key(row), known or counts_of(_answer(row))
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise DataError(
                f"{files.path}: {name}: row {number}: no answer in Arena-Hard's layout ({error!r})"
            ) from error


def _answer(row: Row) -> str:
    """The text of an answer, in the layout of either version."""
    if "messages" in row:
        content = row["messages"][-1]["content"]
        return str(content["answer"] if isinstance(content, Mapping) else content)
    return str(row["choices"][0]["turns"][0]["content"])


def _key(row: Row) -> str:
    return str(row["uid"] if "uid" in row else row["question_id"])


def _battles(files: Files, folder: str, styles: _Styles) -> Iterator[Battles]:
    set_name = folder.split("/model_judgment/")[0].rpartition("/")[2]
    for name in files.matching(f"{folder}/*.jsonl", _HINT):
        for number, row in files.json_lines(name):
            try:
                yield from _battle(row, set_name, styles)
            except (KeyError, TypeError, IndexError, AttributeError) as error:
                raise DataError(
                    f"{files.path}: {name}: row {number}: no verdict in Arena-Hard's layout "
                    f"({error!r})"
                ) from error


_BASELINES = {"creative_writing": "gemini-2.0-flash-001", "arena-hard-v0.1": "gpt-4-0314"}
_BASELINE = "o3-mini-2025-01-31"


def _battle(row: Row, set_name: str, styles: _Styles) -> Iterator[Battles]:
    """A question's outcomes; none where a game has no verdict.

    In the first game the baseline is A, in the second the model.
    """
    labels = [game["score"] if game else None for game in row["games"]]
    read = [None if label is None else outcomes_of(str(label)) for label in labels]
    first, second = read[0], read[1] if len(read) > 1 else ()
    if first is None or second is None:
        return
    category = str(row.get("category") or set_name)
    model = str(row["model"]).rpartition("/")[2]
    baseline = str(row.get("baseline") or _BASELINES.get(category, _BASELINE))
    outcomes = [*second, *(1 - x for x in first)]
    style = styles.difference(str(row["model"]), baseline, _key(row))
    yield Battles(model, category, outcomes, style)


_V2_LINE = re.compile(r"^\d+\s+(?P<model>\S+)\s+(?P<score>\d+\.\d+)\s+\(", re.MULTILINE)
_V1_LINE = re.compile(r"^(?P<model>\S+)\s*\|\s*score:\s*(?P<score>\d+\.\d+)", re.MULTILINE)
_V1 = "arena-hard-v0.1"
_V1_JUDGE = frozenset({"gpt-4-1106-preview"})


def _published(files: Files) -> Iterator[_Table]:
    """The tables that stand in the user's own copy."""
    for name in ("README.md", "misc/past_leaderboards.md"):
        if name in files.names:
            yield from _console_tables(files.read(name).decode("utf-8", "replace"))
    for name in (one for one in files.names if fnmatch(one, "leaderboard/*.csv")):
        rows = csv.DictReader(io.StringIO(files.read(name).decode()))
        scores = {row["model"].lower(): float(row["score"]) for row in rows if row.get("score")}
        yield _Table(_V1, _V1_JUDGE, False, scores)


def _console_tables(text: str) -> Iterator[_Table]:
    """Blocks of a table under a line that names category, judges and style control."""
    parts = re.split(r"^```.*$", text, flags=re.MULTILINE)
    for said, table in zip(parts[::2], parts[1::2], strict=False):
        lines = [line for line in said.splitlines() if line.strip()]
        title = lines[-1].lower() if lines else ""
        old = {m["model"].lower(): float(m["score"]) for m in _V1_LINE.finditer(table)}
        new = {m["model"].lower(): float(m["score"]) for m in _V2_LINE.finditer(table)}
        judges = frozenset(judge for judge in ("gpt-4.1", "gemini-2.5") if _names(title, judge))
        if old:
            yield _Table(_V1, _V1_JUDGE, "style control" in title and "no style" not in title, old)
        elif new and judges:
            of = "creative_writing" if "creative" in title else "hard_prompt"
            yield _Table(of, judges, "style control" in title, new)


def _names(title: str, judge: str) -> bool:
    return judge in title.replace("gemini 2.5", "gemini-2.5")
