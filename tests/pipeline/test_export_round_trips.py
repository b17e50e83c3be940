"""Whatever is in a table: what is exported and read again is the same comparisons."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.commands.data.exporting import write_export
from pipeline.commands.data.formats import Format, Ties
from schemas.ids import comparison_id, pair_id, prompt_id
from schemas.labels import Message
from schemas.parquet import read_rows, write_table
from schemas.stage import SilentProgress, StageContext
from schemas.tables import COMPARISONS, PREFERENCE_PAIRS
from stages.ingest import STAGE
from stages.ingest.config import IngestConfig

Row = dict[str, Any]
# What ends lines, opens strings, marks turns, and is read by nobody alike.
TEXTS = st.text(
    st.sampled_from('ab \n\r\t"\\{}é日🍕\u2028\u00a0\x00\x1e\x85\ufeff')
    | st.characters(codec="utf-8"),
    min_size=1,
    max_size=6,
).filter(lambda text: text.strip())
ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
STRENGTHS = st.none() | st.sampled_from([0.0, 0.5, 3.0]) | st.floats(0, 1e300)
SETTINGS = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def prompts(draw: st.DrawFn) -> list[Message]:
    turns = [{"role": draw(ROLES), "content": draw(st.just("") | TEXTS)} for _ in range(2)]
    return [*turns, {"role": "user", "content": draw(TEXTS)}][draw(st.integers(0, 2)) :]  # type: ignore[return-value]


@st.composite
def comparisons(draw: st.DrawFn) -> list[Row]:
    """Labelled comparisons, every two texts of a prompt once."""
    rows: dict[frozenset[Any], Row] = {}
    for index in range(draw(st.integers(1, 5))):
        prompt = draw(prompts())
        texts = draw(st.lists(TEXTS, min_size=2, max_size=2, unique_by=lambda text: text.strip()))
        a, b = ([Message(role="assistant", content=text)] for text in texts)
        identity = prompt_id(prompt)
        rows.setdefault(
            frozenset((identity, *texts)),
            {
                **dict.fromkeys(COMPARISONS.schema.names),
                "comparison_id": comparison_id(prompt, a, b),
                "prompt_id": identity,
                "prompt": prompt,
                "completion_a": a,
                "completion_b": b,
                "label": draw(st.sampled_from(["A", "B", "Tie"])),
                "strength": draw(STRENGTHS),
                "annotations": [],
                "label_source": draw(st.sampled_from(["human", "model"])),
                "split": "test" if int(identity[:2], 16) % 2 else "train",
                "category": draw(st.none() | TEXTS),
                "source": "s",
                "file": "f",
                "row": index,
            },
        )
    return list(rows.values())


def read_again(folder: Path, kind: str, **settings: Any) -> list[Row]:
    dataset = {"kind": kind, "path": str(folder), "keep_source_split": True}
    config = IngestConfig.model_validate(
        {
            "datasets": [dataset],
            "dev_fraction": 0.0,
            "near_duplicates": {"policy": "off"},
            **settings,
        }
    )
    output = folder.parent / "again"
    shutil.rmtree(output, ignore_errors=True)
    context = StageContext(inputs={}, output=output, progress=SilentProgress())
    counts = STAGE.run(config, context)
    assert counts["rejects"] == 0, read_rows(output / "rejects.parquet", COMPARISONS)
    return read_rows(output / "comparisons.parquet", COMPARISONS)


def by_id(rows: list[Row]) -> dict[str, Row]:
    lineage = ("source", "file", "row")
    return {r["comparison_id"]: {k: v for k, v in r.items() if k not in lineage} for r in rows}


@pytest.mark.parametrize(
    ("to", "kind"),
    [
        (Format.TRL, "parquet"),
        (Format.COOKBOOK, "jsonl"),
        (Format.JSONL, "jsonl"),
        (Format.HUB_LAYOUT, "parquet"),
    ],
)
@SETTINGS
@given(rows=comparisons())
def test_comparisons_come_back(tmp_path: Path, to: Format, kind: str, rows: list[Row]) -> None:
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    write_table(tmp_path / "comparisons.parquet", COMPARISONS, rows)
    counts = write_export(to, [tmp_path / "comparisons.parquet"], tmp_path / "out", Ties.KEEP)
    assert sum(count["rows"] for count in counts.values()) == len(rows)
    again = read_again(tmp_path / "out", kind)
    assert by_id(again) == by_id(rows)


@pytest.mark.parametrize(("to", "kind"), [(Format.TRL, "parquet"), (Format.COOKBOOK, "jsonl")])
@SETTINGS
@given(rows=comparisons(), margin=st.floats(1e-6, 1))
def test_pairs_come_back_as_comparisons(
    tmp_path: Path, to: Format, kind: str, rows: list[Row], margin: float
) -> None:
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    pairs = [pair(row, margin) for row in rows]
    write_table(tmp_path / "pairs.parquet", PREFERENCE_PAIRS, pairs)
    write_export(to, [tmp_path / "pairs.parquet"], tmp_path / "out")
    found = read_again(tmp_path / "out", kind)
    assert {row["label"] for row in found} <= {"A", "B"}
    assert {told(row) for row in found} == {
        (p["prompt_id"], text(p["chosen"]), text(p["rejected"]), margin, "judge", p["split"])
        for p in pairs
    }


def pair(row: Row, margin: float) -> Row:
    chosen, rejected = row["completion_a"], row["completion_b"]
    return {
        **dict.fromkeys(PREFERENCE_PAIRS.schema.names),
        **{name: row[name] for name in ("prompt_id", "prompt", "split", "source", "file", "row")},
        "pair_id": pair_id(row["prompt"], chosen, rejected),
        "chosen": chosen,
        "rejected": rejected,
        "margin": margin,
        "label_source": "judge",
        "comparison_id": row["comparison_id"],
    }


def text(turns: list[Row]) -> str:
    return str(turns[0]["content"])


def told(row: Row) -> tuple[Any, ...]:
    sides = (row["completion_a"], row["completion_b"])
    better, worse = sides if row["label"] == "A" else sides[::-1]
    return (
        row["prompt_id"],
        text(better),
        text(worse),
        row["strength"],
        row["label_source"],
        row["split"],
    )


def test_calls_thoughts_and_tools_are_written_under_trls_names(tmp_path: Path) -> None:
    """`tools`, `tool_calls` with their type, `reasoning_content`; and all of it comes back."""
    call = {"id": "1", "function": {"name": "look", "arguments": '{"city": "Oslo"}'}}
    asked: Row = {"role": "user", "content": "Weather in Oslo?"}
    rows = [
        {
            "prompt": [asked],
            "chosen": [{"role": "assistant", "content": "", "tool_calls": [call]}],
            "rejected": [{"role": "assistant", "content": "Cold.", "reasoning_content": "North."}],
            "tools": json.dumps([{"type": "function", "function": {"name": "look"}}]),
            "chat_template_kwargs": '{"enable_thinking": true}',
        }
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = read_again(tmp_path / "in", "jsonl", sides="as_given")
    table = tmp_path / "comparisons.parquet"
    write_table(table, COMPARISONS, before)
    write_export(Format.TRL, [table], tmp_path / "trl", Ties.KEEP)
    (written,) = pq.read_table(tmp_path / "trl/train.parquet").to_pylist()
    (turn,) = written["chosen"]
    assert turn["tool_calls"] == [{"id": "1", "type": "function", "function": call["function"]}]
    assert written["rejected"][0]["reasoning_content"] == "North."
    assert json.loads(written["tools"])[0]["function"]["name"] == "look"
    assert json.loads(written["chat_template_kwargs"]) == {"enable_thinking": True}
    assert by_id(read_again(tmp_path / "trl", "parquet")) == by_id(before)
