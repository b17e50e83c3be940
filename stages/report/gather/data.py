"""What the run was given to learn from: sources, labels, lengths, and what was left out and why."""

from collections import Counter
from pathlib import Path

import polars as pl

from evals.files.data_card import data_card
from evals.models.token_lengths import token_lengths
from schemas.tables import COMPARISONS, REJECTS
from stages.report.gather.distributions import histogram
from stages.report.gather.sources import Json, Sources

_MOST_SOURCES = 4  # in one picture
_SIDES = ("completion_a", "completion_b")


def ingested(sources: Sources) -> Json:
    """The comparisons of ingest in numbers; `n` is 0 where there are none.

    Returns:
        `n`, `prompts_repeated`, `chosen_longer`, `sources` (one row each), `lengths` and
        `strengths` (histograms or None) and `rejects` (reason, rows), most frequent first.

    Raises:
        DataError: a table is broken.
    """
    rejects = Counter(row["reason"] for row in sources.columns("ingest", REJECTS, ("reason",)))
    left_out = [
        {"reason": reason, "rows": n}
        for reason, n in sorted(rejects.items(), key=lambda item: (-item[1], item[0]))
    ]
    path = sources.path("ingest", COMPARISONS.file_name)
    card = data_card(path) if path is not None else {"rows": 0}
    if path is None or not card["rows"]:
        return {"n": 0, "sources": [], "rejects": left_out}
    return {
        "n": card["rows"],
        "prompts_repeated": card["prompts_repeated"],
        "chosen_longer": card["chosen_longer"],
        "sources": _sources(card, path),
        "lengths": _lengths(path, _tokenizer(sources)),
        "strengths": _strengths(path),
        "rejects": left_out,
    }


def _sources(card: Json, path: Path) -> list[Json]:
    """One row per source: how many, in which split, and how the labels lie."""
    splits = _frame(path, ["source", "split"]).group_by("source", "split").len().rows()
    held = {(source, split): n for source, split, n in splits}
    return [
        {
            "source": source,
            **found,
            **{split: held.get((source, split), 0) for split in ("train", "dev", "test")},
        }
        for source, found in card["by_source"].items()
    ]


def _tokenizer(sources: Sources) -> Path | None:
    """The tokenizer of a model that the run has made."""
    found = (sources.path(stage, "model/tokenizer.json") for stage in ("train", "sft", "judge"))
    return next((path for path in found if path is not None), None)


def _lengths(path: Path, tokenizer: Path | None) -> Json | None:
    if tokenizer is not None:
        found = token_lengths(path, ["prompt", *_SIDES], tokenizer)
        unit = "tokens"
    else:
        found, unit = _characters(path), "characters"
    answers = [length for side in _SIDES for length in found[side]]
    return histogram(
        {"prompt": found["prompt"], "answer": answers}, unit, _upper(found["prompt"] + answers)
    )


def _characters(path: Path) -> dict[str, list[int]]:
    columns = ["prompt", *_SIDES]
    lengths = pl.element().struct.field("content").str.len_chars()
    frame = _frame(path, columns).select(pl.col(c).list.eval(lengths).list.sum() for c in columns)
    return {name: frame[name].to_list() for name in columns}


def _upper(values: list[int]) -> tuple[float, float] | None:
    """Up to where the axis goes: a few giants must not flatten all others; they share a bin."""
    ordered = sorted(values)
    high = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return (0.0, float(high)) if high and ordered[-1] > 2 * high else None


def _strengths(path: Path) -> Json | None:
    """How strongly one side was preferred, by source: each has its own units. Ties have none."""
    frame = _frame(path, ["source", "label", "strength"])
    decided = frame.filter(pl.col("label") != "Tie").drop_nulls("strength")
    by_source = decided.group_by("source").agg("strength", n=pl.len())
    most = by_source.sort(["n", "source"], descending=[True, False]).head(_MOST_SOURCES)
    return histogram(dict(most.select("source", "strength").iter_rows()), "strength", bins=20)


def _frame(path: Path, columns: list[str]) -> pl.DataFrame:
    return pl.read_parquet(path, columns=columns, glob=False)
