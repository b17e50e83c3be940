"""Preferences in columns of texts or messages, read whole where nothing is in doubt."""

import numpy as np
import polars as pl

from stages.ingest.frames.examples import (
    EMPTY,
    Flags,
    any_in,
    comparisons_frame,
    lists_of_turns,
    those,
    turns_of,
)
from stages.ingest.frames.texts import DOUBTFUL, Places

_MESSAGE_FIELDS = {"role", "content"}
_PLAIN_ROLES = ("system", "user", "assistant", "tool")
# Texts that may be a conversation, rendered turns, or begin with a thought.
_NOT_PLAIN = r"^\s*(?:[\[{<]|(?i:human|user|system):)"
_THOUGHT = r"^\s*(?:<think>|\[THINK\])"


def read_texts(rows: pl.DataFrame, prompt: str, chosen: str, rejected: str) -> pl.DataFrame:
    """The comparisons of three columns of text, where nothing is in doubt.

    `rows` has `row`, those columns, and `label`, `strength` and the like where a row states them.
    """
    names = (prompt, chosen, rejected)
    if any(rows.schema[name] != pl.String for name in names):
        return EMPTY
    message = pl.struct(role=pl.lit("user"), content=pl.col(prompt))
    clean = rows.filter(
        pl.all_horizontal(
            pl.col(name).is_not_null() & _says_something(pl.col(name)) for name in names
        )
        & ~pl.any_horizontal(pl.col(name).str.contains(_NOT_PLAIN) for name in names)
        & (pl.col(chosen).str.strip_chars() != pl.col(rejected).str.strip_chars())
    )
    beside = [name for name in clean.columns if name in EMPTY.columns and name not in names]
    return comparisons_frame(
        clean.select(
            *beside,
            prompt=pl.concat_list(message),
            a=pl.col(chosen),
            b=pl.col(rejected),
        ),
        chosen_first=True,
    )


def _says_something(text: pl.Expr) -> pl.Expr:
    return (text.str.strip_chars() != "") & ~text.str.contains(DOUBTFUL)


def read_conversations(rows: pl.DataFrame, stated: str | None = None) -> pl.DataFrame:
    """The comparisons of two columns of messages that differ in their last turn only.

    `rows` has `row`, `chosen` and `rejected`, and `label`, `strength` and the like where a row
    states them; `stated` is a column that must repeat what the user says in one turn, where it is
    not null. In doubt is everything that could be a defect.
    """
    if not all(_are_messages(rows.schema[name]) for name in ("chosen", "rejected")):
        return EMPTY
    lengths = rows.select(pl.col("chosen", "rejected").list.len().fill_null(0)).to_numpy()
    rows = those(rows, (lengths[:, 0] == lengths[:, 1]) & (lengths[:, 0] > 0) & _is_plain(rows))
    if not len(rows):
        return EMPTY
    turns, ends = _side_by_side(rows)
    good = ~any_in(turns.select(_in_doubt().fill_null(True)).to_series().to_numpy(), ends)
    if stated is not None and rows.schema.get(stated) == pl.String:  # only a text can disagree
        good &= _says(turns, ends, rows[stated])
    last = turns["last"]
    role, content = (turns[name].filter(~last) for name in ("role", "content"))
    beside = [name for name in rows.columns if name in EMPTY.columns and name != "prompt"]
    frame = rows[beside].hstack(
        [
            lists_of_turns(role, content, ends - np.arange(1, len(ends) + 1)).alias("prompt"),
            turns["content"].filter(last).alias("a"),
            turns["other_content"].filter(last).alias("b"),
        ]
    )
    return comparisons_frame(those(frame, good), chosen_first=True)


def _is_plain(rows: pl.DataFrame) -> Flags:
    """[n] rows whose messages have role and content and nothing else."""
    plain = np.ones(len(rows), bool)
    for name in ("chosen", "rejected"):
        inner = rows.schema[name].inner  # type: ignore[attr-defined]
        others = [field.name for field in inner.fields if field.name not in _MESSAGE_FIELDS]
        for other in others:
            found = pl.element().struct.field(other).is_not_null()
            flags = rows.select(pl.col(name).list.eval(found).list.any().fill_null(False))
            plain &= ~flags.to_series().to_numpy()
    return plain


def _are_messages(dtype: pl.DataType) -> bool:
    return (
        isinstance(dtype, pl.List)
        and isinstance(dtype.inner, pl.Struct)
        and {f.name: f.dtype for f in dtype.inner.fields if f.name in _MESSAGE_FIELDS}
        == dict.fromkeys(_MESSAGE_FIELDS, pl.String)
    )


def _side_by_side(rows: pl.DataFrame) -> tuple[pl.DataFrame, Places]:
    """The turns of conversations of equal lengths, one after the other, and where each ends.

    `role` and `content` are those of `chosen`, `other_role` and `other_content` of `rejected`;
    `last` are the answers.
    """
    (chosen, ends), (rejected, _) = (turns_of(rows[name]) for name in ("chosen", "rejected"))
    last = np.zeros(len(chosen), bool)
    last[ends - 1] = True
    others = {f"other_{name}": rejected[name] for name in ("role", "content")}
    turns = {"role": chosen["role"], "content": chosen["content"], **others}
    return pl.DataFrame({**turns, "last": last}), ends


def _in_doubt() -> pl.Expr:
    """Turns that are odd, histories that are not the same or say nothing, answers likewise."""
    sides = [(pl.col("role"), pl.col("content")), (pl.col("other_role"), pl.col("other_content"))]
    (role, content), (other_role, other_content) = sides
    said, other = (text.str.strip_chars() for _, text in sides)
    odd = [
        ~role.is_in(_PLAIN_ROLES) | text.str.contains(DOUBTFUL) | text.str.contains(_THOUGHT)
        for role, text in sides
    ]
    answers = (role != "assistant") | (other_role != "assistant") | (said == other) | (other == "")
    histories = (role != other_role) | (content != other_content)
    return odd[0] | odd[1] | (said == "") | pl.when("last").then(answers).otherwise(histories)


def _says(turns: pl.DataFrame, ends: Places, stated: pl.Series) -> Flags:
    """Conversations in whose history the user says what is stated, or of which nothing is."""
    owner = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    words = stated.gather(owner)
    same = (pl.col("content") == words) & (pl.col("role") == "user") & ~pl.col("last")
    found = turns.select((same | pl.lit(words).is_null()).fill_null(False))
    return any_in(found.to_series().to_numpy(), ends)
