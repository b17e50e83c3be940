"""Pairs read, judged, and models compared."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from evals.files.outputs.fields import user_turns
from evals.files.outputs.outputs import answer_of
from evals.files.outputs.pairs import PAIR_COLUMNS, label_of, pair_columns
from evals.files.outputs.rows import file_rows
from evals.judges import Judge
from evals.judges.judge_spec import named_judge
from evals.judges.orders import judge_in_order
from evals.judges.ratings.charging import charged_once
from pipeline.commands.judging.comparing.play import Wishes, compare_contenders
from prefline.comparisons import Comparison, LabeledComparison
from prefline.frames import Frame, Row, rows_of
from prefline.notebooks import outside_event_loops
from schemas.errors import DataError
from schemas.ids import comparison_id, prompt_id
from schemas.labels import BOTH_ORDERS, Message
from schemas.labels import Comparison as Shown
from schemas.stage import Runtime
from schemas.tables import COMPARISONS, VERDICTS
from schemas.validation import rows_to_arrow

_COLUMNS = ("comparison_id", "prompt_id", "prompt", "completion_a", "completion_b", "label")
_PAIRS = pa.schema([COMPARISONS.schema.field(name) for name in _COLUMNS])


def read_pairs(source: str | Path | Frame) -> pl.DataFrame:
    """Pairs of answers as a frame of `prompt`, `completion_a`, `completion_b` and `label`.

    Read are rows of a prompt and two answers (`completion_a` and `completion_b`, `response_1` and
    `response_2`, `chosen` and `rejected`, ...), with or without a label, and the cookbook's
    `comparison` and `label`. `label` is A, B, Tie, or null where nobody has said.

    Args:
        source: a file (JSON lines, a JSON array, CSV, Parquet), or a frame.

    Raises:
        MissingInputError, DataError: it cannot be read; the message names the row.
    """
    rows = [_pair_row(*pair) for pair in _pairs(source)]
    return _frame(pa.Table.from_pylist(rows, schema=_PAIRS))


@outside_event_loops
def judge(
    pairs: Frame | Sequence[LabeledComparison | Comparison],
    judge: str | Judge,
    runtime: Runtime | None = None,
) -> pl.DataFrame:
    """A judge's verdicts on pairs, in both orders: rows of the verdicts table.

    Args:
        pairs: as `read_pairs` reads them, or comparisons.
        judge: `length`, a model's folder or hub id, `openai:MODEL@URL`, `rule:NAME`, settings as
            JSON, or an opened judge.
        runtime: devices and servers.

    Raises:
        PipelineError: what the user can mend.
    """
    shown = list({one.comparison_id: one for one in map(_shown, _pairs(pairs))}.values())
    if not shown:
        raise DataError("judge: the frame has no pairs")
    opened = named_judge(judge, runtime or Runtime()) if isinstance(judge, str) else judge
    rows = [row for order in BOTH_ORDERS for row in judge_in_order(opened, shown, order)]
    return _frame(rows_to_arrow(VERDICTS, charged_once(rows)))


@outside_event_loops
def compare(
    *contenders: str | Path | Frame,
    judge: str,
    prompts: str | Path | Sequence[str] | None = None,
    baseline: str | None = None,
    run_dir: str | Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Which of several models or sets of outputs is better; what `prefline compare --json` prints.

    Args:
        contenders: as the command takes them (`NAME=...` gives a name), or frames of a prompt and
            an output, which are called after their place: a, b, c.
        judge: as in `judge`, by a word.
        prompts: a file, the prompts themselves, or a standard set (`"mt-bench=FOLDER"`); None
            takes those that outputs bring.
        baseline: whom the others have to beat; None takes the first.
        run_dir: where the run lives; None takes runs/compare-<names>.
        settings: `n`, `max_tokens`, `temperature`, `tasks`, `all_pairs`, `chat_template`,
            `api_key_env`.

    Raises:
        PipelineError: what the user can mend.
    """
    folder = Path(run_dir) if run_dir is not None else None
    beside = Path(f"{folder}-inputs") if folder else Path("runs/compare-inputs")
    texts = [
        str(one) if isinstance(one, str | Path) else _written(one, beside, place)
        for place, one in enumerate(contenders)
    ]
    if prompts is not None and not isinstance(prompts, str | Path):
        beside.mkdir(parents=True, exist_ok=True)
        listed = beside / "prompts.json"
        listed.write_text(json.dumps(list(prompts), ensure_ascii=False), encoding="utf-8")
        prompts = listed
    wishes = Wishes(
        prompts=None if prompts is None else str(prompts),
        baseline=baseline,
        run_dir=folder,
        **settings,
    )
    return compare_contenders(texts, judge, wishes)


def _written(frame: Frame, folder: Path, place: int) -> str:
    """A frame of outputs as a file, which a run can be resumed from."""
    name = chr(ord("a") + place)
    rows, _ = rows_of(frame)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False, default=str) for row in rows]
    path = folder / f"{name}.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


Pair = tuple[Sequence[Message], Sequence[Message], Sequence[Message], str | None]


def _pairs(source: Any) -> Iterator[Pair]:
    if isinstance(source, str | Path):
        path = Path(source)
        for number, row in file_rows(path):
            yield _pair(path, number, row)
        return
    if (
        isinstance(source, Sequence)
        and source
        and isinstance(source[0], LabeledComparison | Comparison)
    ):
        for one in source:
            comparison = one.comparison if isinstance(one, LabeledComparison) else one
            label = one.label if isinstance(one, LabeledComparison) else None
            yield (
                comparison.prompt_conversation,
                comparison.completion_A,
                comparison.completion_B,
                label,
            )
        return
    rows, _ = rows_of(source)
    for number, row in enumerate(rows):
        yield _pair(Path("frame"), number, row)


def _pair(path: Path, number: int, row: Row) -> Pair:
    row = _cookbook(row)
    columns, turns = pair_columns(row), user_turns(path, number, row)
    if columns is None or not turns:
        what = "two answers" if columns is None else "a prompt"
        known = " or ".join(f"{a} and {b}" for a, b in PAIR_COLUMNS[:3])
        raise DataError(
            f"{path}: row {number}: no columns with {what} (such as {known}, and prompt); found "
            f"{', '.join(row) or 'none'}"
        )
    answers = [answer_of(path, number, name, row[name]) for name in columns]
    if None in answers:
        raise DataError(f"{path}: row {number}: {columns[answers.index(None)]} is null")
    first, second = ([Message(role="assistant", content=str(text))] for text in answers)
    return turns[0], first, second, label_of(path, number, row)


def _cookbook(row: Row) -> Row:
    """The row of a cookbook's comparison in our columns; any other row as it is."""
    inner = row.get("comparison")
    if not isinstance(inner, Mapping):
        return row
    return {
        "prompt": inner.get("prompt_conversation"),
        "completion_a": inner.get("completion_A"),
        "completion_b": inner.get("completion_B"),
        "label": row.get("label"),
    }


def _shown(pair: Pair) -> Shown:
    return Shown(comparison_id(*pair[:3]), prompt_id(pair[0]), *pair[:3])


def _pair_row(
    prompt: Sequence[Message], a: Sequence[Message], b: Sequence[Message], label: str | None
) -> Row:
    return {
        "comparison_id": comparison_id(prompt, a, b),
        "prompt_id": prompt_id(prompt),
        "prompt": list(prompt),
        "completion_a": list(a),
        "completion_b": list(b),
        "label": None if label is None else str(label),
    }


def _frame(table: pa.Table) -> pl.DataFrame:
    made = pl.from_arrow(table)
    assert isinstance(made, pl.DataFrame)
    return made
