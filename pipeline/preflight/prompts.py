"""Whether there will be prompts to measure on, and what so many can show."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evals.statistics.power import detectable_effect
from pipeline.recipe import Recipe

FEW_PROMPTS = 50
"""So many show a distance of 19 points from even; below, a warning says what can be concluded."""


def few_held_out_prompts(recipe: Recipe) -> Iterator[str]:
    """So few prompts to measure on, as far as files tell, that nothing can come of it."""
    ingest: Any = recipe.stages.get("ingest")
    evaluate: Any = recipe.stages.get("evaluate")
    if ingest is None or evaluate is None or evaluate.brings_prompts:
        return
    rows = [_rows_of(dataset) for dataset in ingest.datasets]
    known = [count for count in rows if count is not None]
    fraction = ingest.test_fraction if evaluate.split == "test" else ingest.dev_fraction
    if len(known) < len(rows) or not fraction:
        return
    expected = max(1, round(sum(known) * fraction))
    if expected < FEW_PROMPTS:
        shown = detectable_effect(0.5, None, expected) or 0.5
        yield (
            f"ingest.{evaluate.split}_fraction: at most {expected} or so of "
            f"{sum(known):,} rows will be {evaluate.split} prompts; so many show a win rate "
            f"{100 * shown:.0f} points or more from 50%, and nothing nearer (80% power at the 5% "
            "level): take more data, or a larger fraction"
        )


def _rows_of(dataset: Any) -> int | None:
    """The most prompts of a data set, where that is cheap to know: a generator, a JSONL file."""
    if dataset.kind == "food":
        return int(dataset.people)
    path = Path(getattr(dataset, "path", None) or "")
    if path.suffix != ".jsonl" or not path.is_file():
        return None
    with path.open("rb") as file:
        count = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    return min(count, dataset.max_rows) if dataset.max_rows else count
