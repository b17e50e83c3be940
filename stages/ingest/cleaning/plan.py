"""What cleaning decides once everything has been read: who is held out, which rows go, and why.

The order is fixed. Near copies of held-out prompts are held out with them, or dropped; training
prompts that overlap an evaluation set go; what is left is cut to the mixture. Every decision is a
function of the settings and of what was read, so a killed run decides the same again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

from stages.ingest.cleaning.decontamination import Overlaps
from stages.ingest.cleaning.keys import NO_KEYS, places_among, prompt_keys
from stages.ingest.cleaning.mixture import Share, drawn, quotas
from stages.ingest.cleaning.near_duplicates import Surplus
from stages.ingest.cleaning.prompt_index import PromptIndex
from stages.ingest.cleaning.prompts import read_prompts
from stages.ingest.cleaning.scratch import Scratch
from stages.ingest.cleaning.words import hash_words
from stages.ingest.examples import RowError
from stages.ingest.units import Unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.ingest import IngestConfig


@dataclass
class Plan:
    """What becomes of prompts and rows.

    `held_out` are the keys of prompts that join the test split, ascending; `surplus` are prompts
    that go because others say the same; `prompts` and `rows` say by id what else goes. A row's id
    is that of its comparison, else of its demonstration, else of its prompt.
    """

    held_out: "NDArray[np.bytes_]" = field(default_factory=lambda: NO_KEYS)
    surplus: Surplus | None = None
    prompts: Mapping[str, RowError] = field(default_factory=dict)
    rows: dict[str, RowError] = field(default_factory=dict)

    def late(self, unit: Unit, rows: pa.Table) -> list[tuple[int, RowError]]:
        """Which rows of a piece go, by their place in it, and why."""
        if not (self.prompts or self.rows or self.surplus):
            return []
        ids = _ids(rows)
        found = _known(self.rows, ids["row_id"]) | self.gone(ids["prompt_id"])
        return sorted(found.items())

    def gone(self, prompts: pl.Series) -> dict[int, RowError]:
        """Which prompts go, by their place among these, and why."""
        found: dict[int, RowError] = {}
        if self.surplus:
            places = places_among(self.surplus.keys, prompt_keys(prompts))
            found = {i: self.surplus.error(places[i]) for i in np.flatnonzero(places >= 0).tolist()}
        return found | _known(self.prompts, prompts)


def make_plan(
    config: "IngestConfig",
    units: Sequence[Unit],
    datasets: Sequence[int],
    moved: set[str],
    folder: Path,
) -> Plan:
    """Decide.

    Args:
        config: the stage's settings.
        units: all that was read.
        datasets: of each unit the number of its data set.
        moved: prompts that their sources put in both splits; they are held out.
        folder: where what is known of every prompt lies while this is decided.

    Raises:
        DataError, MissingInputError: an evaluation set cannot be read.
        ConfigError: the weights of the mixture do not go together.
    """
    plan = Plan()
    if config.near_duplicates.policy != "off" or config.decontaminate:
        with Scratch(folder) as scratch:
            _settle_prompts(plan, config, units, moved, scratch)
    _mix(plan, config, units, datasets)
    return plan


def _settle_prompts(
    plan: Plan, config: "IngestConfig", units: Sequence[Unit], moved: set[str], scratch: Scratch
) -> None:
    near, overlaps = config.near_duplicates, Overlaps(config.decontaminate)
    index = PromptIndex(scratch) if near.policy != "off" else None
    for prompts in read_prompts(units, prompt_keys(sorted(moved))):
        words = hash_words(prompts.texts)
        overlaps.add(prompts, words)
        if index:
            index.add(prompts, words)
    if index and near.policy == "one_split":
        plan.held_out = index.held_out_together(near.threshold)
    elif index:
        plan.surplus = index.surplus(near.threshold)
    plan.prompts = overlaps.of_training(plan.held_out)


def _mix(
    plan: Plan, config: "IngestConfig", units: Sequence[Unit], datasets: Sequence[int]
) -> None:
    """Note the rows that exceed what the mixture takes of their data set."""
    names = _names(config)
    shares = {
        name: Share(getattr(d, "max_kept", None), getattr(d, "weight", None))
        for name, d in zip(names, config.datasets, strict=True)
    }
    if all(share == Share() for share in shares.values()):
        return
    ids: Mapping[str, list[str]] = {name: [] for name in names}
    for unit, number in zip(units, datasets, strict=True):
        for rows in unit.batches("rows"):
            gone = plan.gone((found := _ids(rows))["prompt_id"])
            good = (row for i, row in enumerate(found["row_id"]) if i not in gone)
            ids[names[number]].extend(good)
    for name, (count, reason) in quotas({n: len(i) for n, i in ids.items()}, shares).items():
        kept = drawn(ids[name], count, config.seed)
        error = RowError(reason, f"{count} of the {len(ids[name])} rows of {name} stay")
        plan.rows.update((row, error) for i, row in enumerate(ids[name]) if i not in kept)


def _names(config: "IngestConfig") -> list[str]:
    """The data sets by name, numbered where several have the same."""
    names = [d.name or d.kind for d in config.datasets]
    return [n if names.count(n) == 1 else f"{n} ({i + 1})" for i, n in enumerate(names)]


def _known(errors: Mapping[str, RowError], ids: pl.Series) -> dict[int, RowError]:
    return {i: errors[one] for i, one in enumerate(ids) if one in errors} if errors else {}


def _ids(rows: pa.Table) -> pl.DataFrame:
    """Of each row the prompt's id and its own."""
    columns = ["prompt_id", "comparison_id", "demonstration_id"]
    frame = pl.DataFrame(pl.from_arrow(rows.select(columns)))
    own = pl.coalesce("comparison_id", "demonstration_id", "prompt_id").alias("row_id")
    return frame.select("prompt_id", own)
