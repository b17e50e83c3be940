"""Pairs from tables to tokens: which are used, which are set aside and why, and what is cached."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.models.rendering import ChatRenderer
from schemas.parquet import write_table
from schemas.stage import StageContext
from schemas.tables import COMPARISONS, PREFERENCE_PAIRS
from stages.training.data.disk_cache import DiskCache
from stages.training.data.pairs import PairSource, open_pairs, pair_sources, view_pairs
from stages.training.data.rows.rejects import Rejects
from tests.fixtures.preferences import (
    comparison,
    preference_pair,
    user,
    write_ingest,
    write_label,
)
from tests.fixtures.tiny_models import byte_level_tokenizer

ROWS = [
    comparison("kai", "pizza", "sushi", "A", 0),
    comparison("lea", "pizza", "sushi", "Tie", 1),
    comparison("jun", "pizza", "sushi", None, 2),
    comparison("ivo", "", "sushi", "B", 3),
    comparison("hana", "soup", "soup", "A", 4),
    comparison("eve", "soup " * 100, "sushi", "A", 5),
    comparison("kai", "sushi", "pizza", "B", 6),
    comparison("ada", "pizza", "sushi", "A", 7),
    comparison("gül " * 100, "pizza", "sushi", "A", 8),
    {**comparison("ferdi", "pizza", "sushi", "A", 9), "prompt": user(" ")},
    comparison("no", "pizza", "sushi", "A", 10),
    comparison("béa", "", "sushi", "A", 11),
    comparison("béa", "", "", "A", 12),
]
REFUSES = "{% if ' no ' in messages[0]['content'] %}{{ raise_exception('not this') }}{% endif %}"
REASONS = {
    1: "tie",
    2: "unlabelled",
    3: "empty_completion",
    4: "identical_completions",
    5: "too_long",
    6: "duplicate_pair",
    8: "prompt_too_long",
    9: "empty_prompt",
    10: "chat_template_refused",
    11: "empty_completion",
    12: "empty_completion",
}


@pytest.fixture(scope="module")
def renderer() -> ChatRenderer:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = REFUSES + str(tokenizer.chat_template)
    return ChatRenderer(tokenizer)


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path / "cache", 10**9)


@pytest.fixture
def source(tmp_path: Path) -> PairSource:
    write_table(tmp_path / COMPARISONS.file_name, COMPARISONS, ROWS)
    return PairSource(tmp_path / COMPARISONS.file_name, COMPARISONS)


class Counter(ChatRenderer):
    """Counts the items it renders."""

    rendered = 0

    def render_many(self, items: Any, asked: Any = None) -> Any:
        self.rendered += len(items)
        return super().render_many(items)


def opened(source: PairSource, renderer: ChatRenderer, cache: DiskCache, **settings: Any) -> Any:
    rejects = Rejects("preference_pairs")
    table = open_pairs([source], renderer, 120, cache, rejects, **settings)
    return table, rejects


def test_every_unusable_row_has_its_reason(
    source: PairSource, renderer: ChatRenderer, cache: DiskCache
) -> None:
    table, rejects = opened(source, renderer, cache)
    assert {row["row"]: row["reason"] for row in rejects.rows} == REASONS
    assert len(table) + len(rejects.rows) == len(ROWS)
    details = {row["reason"]: row["detail"] for row in rejects.rows}
    assert "the prompt alone has" in details["prompt_too_long"]
    assert "at most 120" in details["too_long"]
    assert "not this" in details["chat_template_refused"]


def test_tokens_are_what_the_renderer_gives(
    source: PairSource, renderer: ChatRenderer, cache: DiskCache
) -> None:
    table, _ = opened(source, renderer, cache)
    (train,) = view_pairs(table, table.split("train"))
    (held_out,) = view_pairs(table, table.split("dev"))
    for pair, row in ((train, ROWS[0]), (held_out, ROWS[7])):
        chosen = renderer.render(row["prompt"], row["completion_a"])
        rejected = renderer.render(row["prompt"], row["completion_b"])
        assert list(pair.prompt_ids) == chosen.prompt_ids
        assert list(pair.chosen_ids) == chosen.completion_ids
        assert list(pair.rejected_ids) == rejected.completion_ids


def test_the_second_run_reads_the_same_from_disk(
    source: PairSource, renderer: ChatRenderer, cache: DiskCache, tmp_path: Path
) -> None:
    first, second = Counter(renderer.tokenizer), Counter(renderer.tokenizer)
    folders = [tmp_path / "first", tmp_path / "second"]
    tables = []
    for counter, folder in zip((first, second), folders, strict=True):
        table, rejects = opened(source, counter, cache)
        rejects.write(folder)
        train = view_pairs(table, table.split("train"))
        tables.append([(pair.key, *map(list, pair.branches)) for pair in train])
    assert (first.rendered > 0, second.rendered) == (True, 0)
    assert tables[0] == tables[1]
    (one,), (other,) = (list(folder.iterdir()) for folder in folders)
    assert one.read_bytes() == other.read_bytes()


def test_other_content_length_or_template_is_made_anew(
    source: PairSource, renderer: ChatRenderer, cache: DiskCache, tmp_path: Path
) -> None:
    opened(source, renderer, cache)
    again = Counter(renderer.tokenizer)
    open_pairs([source], again, 121, cache, Rejects("preference_pairs"))
    assert again.rendered == 6
    opened(replace(source, splits=("dev",)), again, cache)
    assert again.rendered == 6 + 1
    write_table(source.path, COMPARISONS, ROWS[:3])
    assert len(opened(source, again, cache)[0]) == 1
    assert again.rendered == 6 + 1 + 1
    other = byte_level_tokenizer()  # without the refusals
    write_table(source.path, COMPARISONS, ROWS)
    assert len(opened(source, ChatRenderer(other), cache)[0]) == 3


@pytest.mark.parametrize("column", ["margin", "strength"])
def test_a_training_pair_without_weight_is_set_aside(
    renderer: ChatRenderer, cache: DiskCache, tmp_path: Path, column: str
) -> None:
    values = {"kai": 0.5, "lea": 0.0, "jun": None, "ada": None}
    if column == "margin":
        table = PREFERENCE_PAIRS
        rows = [
            {**preference_pair(name, "pizza", "sushi", i), "margin": value}
            for i, (name, value) in enumerate(values.items())
        ]
    else:
        table = COMPARISONS
        rows = [
            {**comparison(name, "pizza", "sushi", "A", i), "strength": value}
            for i, (name, value) in enumerate(values.items())
        ]
    path = tmp_path / table.file_name
    write_table(path, table, rows)
    tokens, rejects = opened(PairSource(path, table), renderer, cache, weighed_by=column)
    assert {r["row"]: r["reason"] for r in rejects.rows} == {1: f"zero_{column}", 2: f"no_{column}"}
    assert len(tokens.split("train")) == len(tokens.split("dev")) == 1
    assert tokens.numbers(column)[tokens.split("train")].tolist() == [0.5]
    unweighed, rejects = opened(PairSource(path, table), renderer, cache)
    assert (len(unweighed), rejects.rows) == (4, [])


def test_where_pairs_come_from(tmp_path: Path) -> None:
    ingest = write_ingest(tmp_path / "ingest")
    train_only = write_label(tmp_path / "label", [preference_pair("kai", "pizza", "sushi")])
    both = [preference_pair(name, "pizza", "sushi") for name in ("kai", "ada")]
    held_out = write_label(tmp_path / "label-2", both)

    def sources(**inputs: Path) -> list[tuple[Path, str]]:
        found = pair_sources(StageContext(inputs, tmp_path))
        return [(source.path.parent, ",".join(source.splits)) for source in found]

    assert sources(ingest=ingest) == [(ingest, "train,dev")]
    assert sources(ingest=ingest, label=train_only) == [(train_only, "train,dev"), (ingest, "dev")]
    assert sources(ingest=ingest, label=held_out) == [(held_out, "train,dev")]
    assert sources(label=train_only) == [(train_only, "train,dev")]
    mixed = sources(**{"ingest": ingest, "label": train_only, "label@1": held_out})
    assert mixed == [(train_only, "train,dev"), (held_out, "train,dev")]
