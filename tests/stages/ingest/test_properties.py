"""Whatever is read and however it is cleaned: no row is lost, and no prompt is on both sides."""

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from schemas.errors import ConfigError, DataError
from schemas.parquet import read_rows
from schemas.stage import SilentProgress, StageContext
from schemas.tables import TABLES
from stages.ingest import STAGE
from stages.ingest.config import IngestConfig
from tests.fixtures.in_memory import in_memory

PROMPT = "The cat sat on a mat and the dog lay by the door all day"


def preference(prompt: int, chosen: int, rejected: int, score: float | None) -> str:
    asked = f"{PROMPT[4 * (prompt % 4) :]} nr{prompt // 4}"  # near copies of one another
    row = {"prompt": asked, "chosen": f"good {chosen * 'x'}", "rejected": f"bad {rejected * 'y'}"}
    scores = {} if score is None else {"score_chosen": score, "score_rejected": 1.0}
    return json.dumps(row | scores)


def sure(prompt: int) -> str:
    """A row that no rule below objects to: a source of no use is refused as a whole."""
    return preference(prompt, 0, 0, 3.0)


GOOD = st.builds(
    preference,
    st.integers(0, 15),
    st.integers(0, 3),
    st.integers(0, 3),
    st.none() | st.sampled_from([1.0, 2.0, 3.0]),
)
LINES = st.lists(
    GOOD | st.sampled_from(['{"chosen"', "[]", "", '{"prompt": 5}']), min_size=1, max_size=25
)
RULES = [
    {"kind": "min_margin", "min_margin": 1.5},
    {"kind": "length_ratio", "max_ratio": 1.7},
    {"kind": "max_characters", "limit": 62},
    {"kind": "identical"},
]
CAPS = st.none() | st.integers(1, 8)
SHARES = st.one_of(
    *(
        st.tuples(*[st.fixed_dictionaries({"max_kept": CAPS, "weight": weight})] * 2)
        for weight in (st.none(), st.floats(0.1, 2))
    )
)
CLEANING = st.fixed_dictionaries(
    {
        "filters": st.lists(st.sampled_from(RULES), max_size=2),
        "near_duplicates": st.fixed_dictionaries(
            {"policy": st.sampled_from(["off", "one_split", "drop"])}
        ),
        "test_fraction": st.sampled_from([0.0, 0.3, 1.0]),
        "seed": st.integers(0, 3),
    }
)
Rows = list[dict[str, Any]]


def ingested(folder: Path, sources: list[dict[str, Any]], **cleaning: Any) -> dict[str, Rows]:
    config = IngestConfig.model_validate({"datasets": sources, **cleaning})
    output = folder / "out"
    STAGE.run(config, StageContext(inputs={}, output=output, progress=SilentProgress()))
    return {
        name: read_rows(output / f"{name}.parquet", TABLES[name])
        for name in ("comparisons", "prompts", "demonstrations", "rejects")
    }


def source(folder: Path, name: str, written: list[str], **share: Any) -> dict[str, Any]:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(line + "\n" for line in written))
    return {"kind": "jsonl", "name": name, "path": str(path), **share}


@settings(max_examples=60, deadline=None)
@given(first=LINES, second=LINES, shares=SHARES, cleaning=CLEANING)
def test_every_line_is_kept_or_rejected_once(
    first: list[str], second: list[str], shares: tuple[Any, Any], cleaning: dict[str, Any]
) -> None:
    first, second = [sure(103), *first], [sure(107), *second]
    with tempfile.TemporaryDirectory(dir=in_memory()) as name:
        folder = Path(name)
        sources = [
            source(folder, name, written, **share)
            for name, written, share in zip("ab", (first, second), shares, strict=True)
        ]
        try:
            tables = ingested(folder, sources, **cleaning)
        except (DataError, ConfigError):  # none is left of one of them
            event("refused")
            return
        written = {
            (one["path"], row): line
            for one, listed in zip(sources, (first, second), strict=True)
            for row, line in enumerate(listed)
        }
    found = [(r["file"], r["row"]) for r in (*tables["comparisons"], *tables["rejects"])]
    assert sorted(found) == sorted(written)
    assert all(r["raw"] == written[r["file"], r["row"]] for r in tables["rejects"])
    splits = {r["prompt_id"]: r["split"] for r in tables["prompts"]}
    assert {r["prompt_id"] for r in tables["comparisons"]} == set(splits)
    assert all(r["split"] == splits[r["prompt_id"]] for r in tables["comparisons"])
    assert all(splits[r["prompt_id"]] == "train" for r in tables["demonstrations"])
    for name, share in zip("ab", shares, strict=True):
        kept = sum(r["source"] == name for r in tables["comparisons"])
        assert share["max_kept"] is None or kept <= share["max_kept"]


@settings(max_examples=40, deadline=None)
@given(
    few=st.lists(GOOD, min_size=1, max_size=10),
    more=st.lists(GOOD, max_size=10),
    policy=st.sampled_from(["off", "one_split"]),
)
def test_no_held_out_prompt_is_trained_on_when_rows_are_added(
    few: list[str], more: list[str], policy: str
) -> None:
    """Without near copies no prompt moves at all; with them, only from train to test."""
    splits = []
    for written in (few, [*more, *few]):
        with tempfile.TemporaryDirectory(dir=in_memory()) as name:
            tables = ingested(
                Path(name),
                [source(Path(name), "a", written)],
                near_duplicates={"policy": policy},
                test_fraction=0.4,
            )
            splits.append({r["prompt_id"]: r["split"] for r in tables["prompts"]})
    before, after = splits
    moved = {(before[i], after[i]) for i in before if before[i] != after[i]}
    assert moved <= ({("train", "test")} if policy == "one_split" else set())


@settings(max_examples=40, deadline=None)
@given(data=st.data(), written=st.lists(GOOD, min_size=1, max_size=15))
def test_the_order_of_rows_decides_nothing_but_which_of_two_equals_is_named(
    data: st.DataObject, written: list[str]
) -> None:
    """The same prompts in the same splits, the same pairs under the same ids, on the same sides."""
    found = []
    for order in (written, data.draw(st.permutations(written))):
        with tempfile.TemporaryDirectory(dir=in_memory()) as name:
            tables = ingested(Path(name), [source(Path(name), "a", order)], test_fraction=0.4)
            found.append(tables)
    one, other = found
    for table, names in (
        ("prompts", ("prompt_id", "prompt", "split")),
        ("comparisons", ("comparison_id", "completion_a", "completion_b", "split")),
    ):
        told = [{json.dumps([row[name] for name in names]) for row in t[table]} for t in found]
        assert told[0] == told[1]
    assert len(one["rejects"]) == len(other["rejects"])
