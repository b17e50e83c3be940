"""Ids, splits and sides of whole columns: what `schemas.ids` says of one row at a time."""

import json
from binascii import unhexlify
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import polars_hash  # noqa: F401  (gives expressions their `chash` and `nchash`)
import pyarrow as pa
from numpy.typing import NDArray

from schemas.ids import prompt_id, turns_id
from schemas.tables import TEMPLATE_COLUMNS
from stages.ingest.frames.examples import RICH, turns_of
from stages.ingest.frames.seen import Keys
from stages.ingest.frames.texts import joined

_LABEL_NOTES = {"A": 1, "B": -1, "Tie": 0}


def with_ids_of_texts(examples: pl.DataFrame) -> pl.DataFrame:
    """Add `prompt_id`, and the ids of the answers' turns as `_a` and `_b`."""
    turns, ends = turns_of(examples["prompt"])
    texts = turns.select(_turn(pl.col("role"), pl.col("content"))).to_series()
    canonical = joined(texts, ends)
    plain = examples.with_columns(
        _content_id("prompt", pl.lit(canonical)).alias("prompt_id"),
        *(_answer_id(pl.col(side)).alias(f"_{side}") for side in "ab"),
    )
    return _with_rich_ids(plain)


def _with_rich_ids(examples: pl.DataFrame) -> pl.DataFrame:
    """The same, the ids of what is more than plain text put right, one by one."""
    columns = [*RICH, *sorted(TEMPLATE_COLUMNS)]
    if all(examples[name].null_count() == len(examples) for name in columns):
        return examples
    ids = {name: examples[name].to_list() for name in ("prompt_id", "_a", "_b")}
    is_rich = pl.any_horizontal(pl.col(name).is_not_null() for name in columns)
    for index in examples.select(is_rich.arg_true()).to_series().to_list():
        row = examples.row(index, named=True)
        prompt = json.loads(row["prompt_rich"]) if row["prompt_rich"] else row["prompt"]
        kwargs = row["chat_template_kwargs"]
        ids["prompt_id"][index] = prompt_id(prompt, row["tools"], kwargs)
        for side in "ab":
            if row[f"{side}_rich"]:
                ids[f"_{side}"][index] = turns_id(json.loads(row[f"{side}_rich"]))
    return examples.with_columns(pl.Series(name, found) for name, found in ids.items())


def with_hash_splits(
    examples: pl.DataFrame, test_fraction: float, dev_fraction: float
) -> pl.DataFrame:
    """Add `split`: `splits.hash_split` of `prompt_id`."""
    places = _places(examples)
    test, dev = pl.Series(places < test_fraction), pl.Series(places >= 1 - dev_fraction)
    split = pl.when(test).then(pl.lit("test")).when(dev).then(pl.lit("dev"))
    return examples.with_columns(split=split.otherwise(pl.lit("train")))


def with_own_split(examples: pl.DataFrame, split: str, dev_fraction: float) -> pl.DataFrame:
    """Add `split`: the source's own, dev carved out of train."""
    if split != "train":
        return examples.with_columns(split=pl.lit(split))
    return with_hash_splits(examples, 0, dev_fraction)


def _places(examples: pl.DataFrame) -> NDArray[np.float64]:
    """Where in [0, 1) the hash of each prompt lies."""
    high = hex_keys(examples["prompt_id"])[:, 0] >> np.uint64(32)
    places: NDArray[np.float64] = high.astype(np.float64) / 2**32
    return places


def with_dealt_sides(examples: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Where the better answer always comes first, let seed and content choose its side."""
    drawn = _id_of_ids("seed", "prompt_id", "_a", "_b", first=(str(seed), "sides"))
    # The seed is the first eight digits modulo 2**31: odd where the eighth digit is.
    odd = drawn.str.slice(7, 1).is_in(list("13579bdf"))
    exchange = pl.col("chosen_first") & pl.col("b").is_not_null() & odd
    here = examples.select(exchange.alias("exchange")).to_series()
    label = pl.col("label").replace({"A": "B", "B": "A"})
    said = {}
    if examples["annotations"].list.len().sum():
        told = pl.when(here).then(_swapped_annotations()).otherwise("annotations")
        said = {"annotations": told}
    return examples.with_columns(
        a=pl.when(here).then("b").otherwise("a"),
        b=pl.when(here).then("a").otherwise("b"),
        a_rich=pl.when(here).then("b_rich").otherwise("a_rich"),
        b_rich=pl.when(here).then("a_rich").otherwise("b_rich"),
        _a=pl.when(here).then("_b").otherwise("_a"),
        _b=pl.when(here).then("_a").otherwise("_b"),
        label=pl.when(here).then(label).otherwise("label"),
        **said,
    )


def _swapped_annotations() -> pl.Expr:
    said = pl.element().struct
    swapped = said.with_fields(
        pl.field("label").replace({"A": "B", "B": "A"}),
        feedback_a=pl.field("feedback_b"),
        feedback_b=pl.field("feedback_a"),
    )
    return pl.col("annotations").list.eval(swapped)


def with_row_ids(examples: pl.DataFrame, *, derive: bool) -> pl.DataFrame:
    """Add `comparison_id`, `demonstration_id` and `unpaired_id`, null where a row has none.

    A row without `b` is a demonstration, or unpaired where it has a label; with `derive`, the
    preferred answer of a comparison in train is a demonstration too.
    """
    compared = _id_of_ids("comparison", "prompt_id", "_a", "_b")
    preferred = pl.when(pl.col("label") == "B").then("_b").otherwise("_a")
    shown = _id_of_ids("demonstration", "prompt_id", preferred)
    alone = pl.col("b").is_null() & pl.col("a").is_not_null()
    own, rated = alone & pl.col("label").is_null(), alone & pl.col("label").is_not_null()
    derived = pl.col("b").is_not_null() & (pl.col("label") != "Tie") & (pl.col("split") == "train")
    wanted = own | derived if derive else own
    return examples.with_columns(
        comparison_id=compared,  # concatenating a null gives null
        demonstration_id=pl.when(wanted).then(shown).otherwise(pl.lit(None, pl.String)),
        unpaired_id=pl.when(rated)
        .then(_id_of_ids("unpaired", "prompt_id", "_a"))
        .otherwise(pl.lit(None, pl.String)),
    )


def identity_keys(examples: pl.DataFrame) -> tuple[Keys, NDArray[np.int8]]:
    """A key per row that no other content has, and a note.

    Comparisons of the same texts share it whatever their order; the note is 1 or -1 for the side
    that is better, in an order that depends on the texts alone, and 0 for a tie. Demonstrations,
    unpaired answers and prompts have their id for a key; the note of an unpaired one is its sign.
    """
    kind_of_id = pl.coalesce("demonstration_id", "unpaired_id", "prompt_id")
    facts = examples.select(
        id=pl.when(pl.col("b").is_null()).then(kind_of_id).otherwise("prompt_id"),
        both=pl.col("b").is_not_null(),
        note=pl.col("label").replace_strict(_LABEL_NOTES, default=0, return_dtype=pl.Int8),
    )
    keys, notes, both = hex_keys(facts["id"]), facts["note"].to_numpy().copy(), facts["both"]
    sides = [hex_keys(examples[f"_{side}"].filter(both)) for side in "ab"]
    at = both.to_numpy()
    keys[at] = _mix(keys[at] + _mix(sides[0]) + _mix(sides[1]))
    notes[at] *= np.where(sides[0][:, 0] <= sides[1][:, 0], 1, -1).astype(np.int8)
    return keys, notes


def hex_keys(ids: pl.Series) -> Keys:
    """Ids of 32 hex digits as two numbers each, [ids, 2]."""
    return arrow_keys(ids.to_arrow(compat_level=pl.CompatLevel.oldest()))


def arrow_keys(ids: pa.Array | pa.ChunkedArray) -> Keys:
    """Ids of 32 hex digits, none null, as two numbers each, [ids, 2]."""
    array = ids.cast(pa.large_string())
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    if not len(array):
        return np.empty((0, 2), np.uint64)
    start = np.frombuffer(array.buffers()[1], np.int64)[array.offset]
    digits = memoryview(array.buffers()[2])[start : start + 32 * len(array)]
    return np.frombuffer(unhexlify(digits), ">u8").astype(np.uint64).reshape(-1, 2)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser: one to one, and every bit moves every other."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _turn(role: pl.Expr, content: pl.Expr) -> pl.Expr:
    return pl.concat_str(role, pl.lit(":"), _length(content), pl.lit(":"), content)


def _length(text: pl.Expr) -> pl.Expr:
    return text.str.len_bytes().cast(pl.String)


def _content_id(kind: str, text: pl.Expr) -> pl.Expr:
    """`schemas.ids.content_id` of one part."""
    return _hashed(pl.lit(f"{kind}|"), _length(text), pl.lit(":"), text)


def _answer_id(text: pl.Expr) -> pl.Expr:
    """`schemas.ids.turns_id` of one assistant turn, whose text is copied once."""
    length = _length(text)
    whole = text.str.len_bytes() + length.str.len_bytes() + len("assistant::")
    start = [pl.lit("turns|"), whole.cast(pl.String), pl.lit(":assistant:")]
    return _hashed(*start, length, pl.lit(":"), text)


def _id_of_ids(kind: str, *ids: str | pl.Expr, first: Sequence[str] = ()) -> pl.Expr:
    """`schemas.ids.content_id` of some words and of ids."""
    start = "|".join([kind, *(f"{len(word)}:{word}" for word in first)])
    parts = [pl.col(i) if isinstance(i, str) else i for i in ids]
    return _hashed(pl.lit(start), *(p for i in parts for p in (pl.lit("|32:"), i)))


def _hashed(*parts: pl.Expr) -> pl.Expr:
    text: Any = pl.concat_str(*parts)
    hashed: pl.Expr = text.chash.sha2_256()
    return hashed.str.slice(0, 32)
