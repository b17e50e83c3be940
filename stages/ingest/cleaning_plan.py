"""What cleaning decides once everything has been read: who is held out, which rows go, and why.

The order is fixed. Near copies of held-out prompts are held out with them, or dropped; training
prompts that overlap an evaluation set go; what is left is cut to the mixture. Every decision is a
function of the settings and of what was read, so a killed run decides the same again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from schemas.errors import ConfigError
from stages.ingest.config import IngestConfig
from stages.ingest.examples import RowError
from stages.ingest.mixture import Lots, Share, quotas
from stages.ingest.near_duplicates.config import NearDuplicates
from stages.ingest.near_duplicates.decontamination import Overlaps
from stages.ingest.near_duplicates.keys import NO_KEYS, id_keys, places_among
from stages.ingest.near_duplicates.prompt_index import HeldOut, PromptIndex
from stages.ingest.near_duplicates.prompts import read_prompts
from stages.ingest.near_duplicates.scratch import Scratch
from stages.ingest.near_duplicates.search import Surplus
from stages.ingest.near_duplicates.words import hash_words
from stages.ingest.tables.row_cache import Unit

_FEW = 10
"""So many prompts may be held out besides, however few were asked for."""


@dataclass
class Plan:
    """What becomes of prompts and rows.

    `joins` are by split the keys of prompts that join it, ascending; `surplus` are prompts
    that go because others say the same; `prompts` says by id which others go. `rows` are those
    that the mixture leaves out: ascending keys, and the reason of all of them. A row's id is that
    of its comparison, else of its demonstration, else of its prompt.
    """

    joins: Mapping[str, NDArray[np.bytes_]] = field(default_factory=dict)
    surplus: Surplus | None = None
    prompts: Mapping[str, RowError] = field(default_factory=dict)
    rows: list[tuple["NDArray[np.bytes_]", RowError]] = field(default_factory=list)

    def late(self, unit: Unit, rows: pa.Table) -> list[tuple[int, RowError]]:
        """Which rows of a piece go, by their place in it, and why."""
        if not (self.prompts or self.rows or self.surplus):
            return []
        ids = _ids(rows)
        found: dict[int, RowError] = {}
        for keys, error in self.rows:
            found |= dict.fromkeys(_places(keys, ids["row_id"])[0], error)
        return sorted((found | self.gone(ids["prompt_id"])).items())

    def gone(self, prompts: pl.Series) -> dict[int, RowError]:
        """Which prompts go, by their place among these, and why."""
        found: dict[int, RowError] = {}
        if self.surplus:
            where = _places(self.surplus.keys, prompts)
            found = {i: self.surplus.error(place) for i, place in zip(*where, strict=True)}
        if self.prompts:
            known = ((i, self.prompts.get(one)) for i, one in enumerate(prompts))
            found |= {i: error for i, error in known if error}
        return found


def make_plan(
    config: IngestConfig,
    units: Sequence[Unit],
    datasets: Sequence[int],
    moved: Mapping[str, str],
    folder: Path,
) -> Plan:
    """Decide.

    Args:
        config: the stage's settings.
        units: all that was read.
        datasets: of each unit the number of its data set.
        moved: prompts that their sources put in several splits, and where they belong.
        folder: where what is known of every prompt lies while this is decided.

    Raises:
        DataError, MissingInputError: an evaluation set cannot be read.
        ConfigError: the weights of the mixture do not go together, or prompts of one template
            would all be held out.
    """
    plan = Plan()
    if config.near_duplicates.policy != "off" or config.decontaminate:
        with Scratch(folder) as scratch:
            _settle_prompts(plan, config, units, moved, scratch)
    _mix(plan, config, units, datasets)
    return plan


def _settle_prompts(
    plan: Plan,
    config: IngestConfig,
    units: Sequence[Unit],
    moved: Mapping[str, str],
    scratch: Scratch,
) -> None:
    near, overlaps = config.near_duplicates, Overlaps(config.decontaminate)
    index = PromptIndex(scratch) if near.policy != "off" else None
    for prompts in read_prompts(units, moved):
        words = hash_words(prompts.texts)
        overlaps.add(prompts, words)
        if index:
            index.add(prompts, words)
    if index and near.policy == "one_split":
        held_out = index.held_out_together(near.threshold)
        _refuse_templates(held_out, near)
        plan.joins = held_out.joins
    elif index:
        plan.surplus = index.surplus(near.threshold)
    joined = np.sort(np.concatenate((NO_KEYS, *plan.joins.values())))
    plan.prompts = overlaps.of_training(joined)


def _refuse_templates(held_out: HeldOut, near: NearDuplicates) -> None:
    """Raises ConfigError where near copies hold out far more than was asked for.

    So it is with prompts of one template, which differ in a few words that mean everything.
    """
    if held_out.more > max(held_out.asked, _FEW):
        raise ConfigError(
            f"ingest.near_duplicates: {held_out.more} of {held_out.prompts} prompts nearly repeat "
            f"one of the {held_out.asked} that are held out, and would be held out with them; "
            "prompts of one template are not one prompt: set near_duplicates.policy = 'off', or "
            f"raise near_duplicates.threshold ({near.threshold:g}) until only copies are that alike"
        )


def _mix(plan: Plan, config: IngestConfig, units: Sequence[Unit], datasets: Sequence[int]) -> None:
    """Note the rows that exceed what the mixture takes of their data set."""
    names = _names(config)
    shares = {
        name: Share(getattr(d, "max_kept", None), getattr(d, "weight", None))
        for name, d in zip(names, config.datasets, strict=True)
    }
    if all(share == Share() for share in shares.values()):
        return
    lots = {name: Lots(config.seed) for name in names}
    for unit, number in zip(units, datasets, strict=True):
        for rows in unit.batches("rows"):
            ids = _ids(rows)
            stays = np.ones(len(ids), bool)
            stays[list(plan.gone(ids["prompt_id"]))] = False
            lots[names[number]].add(ids["row_id"].filter(pl.Series(stays)).to_list())
    available = {name: len(rows) for name, rows in lots.items()}
    for name, (count, reason) in quotas(available, shares).items():
        error = RowError(reason, f"{count} of the {available[name]} rows of {name} stay")
        plan.rows.append((lots.pop(name).beyond(count), error))


def _names(config: IngestConfig) -> list[str]:
    """The data sets by name, numbered where several have the same."""
    names = [d.name or d.kind for d in config.datasets]
    return [n if names.count(n) == 1 else f"{n} ({i + 1})" for i, n in enumerate(names)]


def _places(known: NDArray[np.bytes_], ids: pl.Series) -> tuple[list[int], list[int]]:
    """Which of the ids are known, and where each of those stands among the known."""
    places = places_among(known, id_keys(ids))
    found = np.flatnonzero(places >= 0)
    return found.tolist(), places[found].tolist()


def _ids(rows: pa.Table) -> pl.DataFrame:
    """Of each row the prompt's id and its own."""
    columns = ["prompt_id", "comparison_id", "demonstration_id", "unpaired_id"]
    frame = pl.DataFrame(pl.from_arrow(rows.select(columns)))
    own = pl.coalesce(*columns[1:], "prompt_id").alias("row_id")
    return frame.select("prompt_id", own)
