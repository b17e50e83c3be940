"""What cleaning decides once everything has been read: who is held out, which rows go, and why.

The order is fixed. Near copies of held-out prompts are held out with them, or dropped; training
prompts that overlap an evaluation set go; what is left is cut to the mixture. Every decision is a
function of the settings and of what was read, so a killed run decides the same again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from stages.ingest.cleaning.decontamination import EvaluationSet
from stages.ingest.cleaning.minhash import joined, shingles
from stages.ingest.cleaning.mixture import Share, drawn, quotas
from stages.ingest.cleaning.near_duplicates import held_out_together, near_pairs, surplus
from stages.ingest.cleaning.words import Words, hash_words
from stages.ingest.examples import RowError
from stages.ingest.units import Unit

if TYPE_CHECKING:
    from stages.ingest import IngestConfig


@dataclass
class Plan:
    """`held_out` are prompts that join the test split; `prompts` and `rows` say by id what goes.

    A row's id is that of its comparison, else of its demonstration, else of its prompt.
    """

    held_out: set[str] = field(default_factory=set)
    prompts: dict[str, RowError] = field(default_factory=dict)
    rows: dict[str, RowError] = field(default_factory=dict)

    def late(self, unit: Unit, rows: pa.Table) -> list[tuple[int, RowError]]:
        """Which rows of a piece go, by their place in it, and why."""
        if not self.prompts and not self.rows:
            return []
        found = (
            (index, self.prompts.get(prompt) or self.rows.get(row))
            for index, (prompt, row) in enumerate(_ids(rows).rows())
        )
        return [(index, error) for index, error in found if error is not None]


@dataclass
class _Prompts:
    """Every prompt once, in reading order."""

    ids: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    contaminated: dict[str, RowError] = field(default_factory=dict)
    sets: list[Words] = field(default_factory=list)


def make_plan(
    config: "IngestConfig", units: Sequence[Unit], datasets: Sequence[int], moved: set[str]
) -> Plan:
    """Decide.

    Args:
        config: the stage's settings.
        units: all that was read.
        datasets: of each unit the number of its data set.
        moved: prompts that their sources put in both splits; they are held out.

    Raises:
        DataError, MissingInputError: an evaluation set cannot be read.
        ConfigError: the weights of the mixture do not go together.
    """
    plan = Plan()
    near = config.near_duplicates.policy != "off"
    if near or config.decontaminate:
        prompts = _read_prompts(config, units, moved)
        if near:
            _settle_near_duplicates(plan, config, prompts)
        test = {i for i, split in zip(prompts.ids, prompts.splits, strict=True) if split == "test"}
        for prompt, error in prompts.contaminated.items():
            if prompt not in test | plan.held_out:
                plan.prompts[prompt] = error
    _mix(plan, config, units, datasets)
    return plan


def _read_prompts(config: "IngestConfig", units: Sequence[Unit], moved: set[str]) -> _Prompts:
    evaluation = [EvaluationSet(settings) for settings in config.decontaminate]
    near = config.near_duplicates.policy != "off"
    found, seen = _Prompts(), set[str]()
    for frame in _new_prompts(units, seen):
        texts = frame["text"].to_list()
        words = hash_words(texts)
        ids = frame["prompt_id"].to_list()
        found.ids += ids
        found.splits += [
            "test" if i in moved else s for i, s in frame.select("prompt_id", "split").rows()
        ]
        for one in evaluation:
            for index, error in one.overlaps(texts, words).items():
                found.contaminated.setdefault(ids[index], error)
        if near:
            found.sets.append(shingles(words))
    return found


def _new_prompts(units: Sequence[Unit], seen: set[str]) -> Iterator[pl.DataFrame]:
    """Piece by piece the prompts that were not there before: prompt_id, split, text."""
    content = pl.element().struct.field("content")
    for rows in (rows for unit in units for rows in unit.batches("rows")):
        frame = pl.DataFrame(pl.from_arrow(rows.select(["prompt_id", "split", "prompt"])))
        frame = frame.unique("prompt_id", keep="first", maintain_order=True)
        frame = frame.filter(
            pl.Series([i not in seen for i in frame["prompt_id"]], dtype=pl.Boolean)
        )
        seen.update(frame["prompt_id"])
        if len(frame):
            text = pl.col("prompt").list.eval(content).list.join("\n").alias("text")
            yield frame.select("prompt_id", "split", text)


def _settle_near_duplicates(plan: Plan, config: "IngestConfig", prompts: _Prompts) -> None:
    pairs, similarity = near_pairs(joined(prompts.sets), config.near_duplicates.threshold)
    prompts.sets.clear()
    listed = [(int(left), int(right)) for left, right in pairs]
    if config.near_duplicates.policy == "one_split":
        moves = held_out_together(listed, prompts.splits)
        plan.held_out.update(prompts.ids[index] for index in moves)
    else:
        dropped = surplus(listed, similarity.tolist(), prompts.splits, prompts.ids)
        plan.prompts.update((prompts.ids[index], error) for index, error in dropped.items())


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
            ids[names[number]].extend(r for p, r in _ids(rows).rows() if p not in plan.prompts)
    for name, (count, reason) in quotas({n: len(i) for n, i in ids.items()}, shares).items():
        kept = drawn(ids[name], count, config.seed)
        error = RowError(reason, f"{count} of the {len(ids[name])} rows of {name} stay")
        plan.rows.update((row, error) for i, row in enumerate(ids[name]) if i not in kept)


def _names(config: "IngestConfig") -> list[str]:
    """The data sets by name, numbered where several have the same."""
    names = [d.name or d.kind for d in config.datasets]
    return [n if names.count(n) == 1 else f"{n} ({i + 1})" for i, n in enumerate(names)]


def _ids(rows: pa.Table) -> pl.DataFrame:
    """Of each row the prompt's id and its own."""
    columns = ["prompt_id", "comparison_id", "demonstration_id"]
    frame = pl.DataFrame(pl.from_arrow(rows.select(columns)))
    own = pl.coalesce("comparison_id", "demonstration_id", "prompt_id").alias("row_id")
    return frame.select("prompt_id", own)
