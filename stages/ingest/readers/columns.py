"""Which columns kinds of data sets have, and what a table with other ones could be read as."""

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from schemas.errors import DataError
from stages.ingest.datasets.config import PROMPT_FIELDS, Dataset

GUESSES = ("ultrafeedback_openbmb", "arena", "helpsteer3", "ultrafeedback", "hh", "kto", "jsonl")
"""The kinds that read rows of files, the strictest first."""
OWN_KINDS = ("jsonl", "parquet", "arrow", "csv")
"""The kinds of people's own files, which read the same rows."""
Columns = tuple[tuple[str, ...], ...]
"""Sets of columns of which a table must have one whole."""
Check = Callable[[str, Sequence[str]], None]
"""Refuses a file, by its name in messages, that has other columns than these. Raises DataError."""

_LIKE: Mapping[str, Collection[str]] = {
    "prompt": (
        *("instruction", "question", "query", "input", "context", "user", "inputs", "ask"),
        *("source_text", "problem", "task", "title", "post", "request", "user_prompt", "text"),
    ),
    "chosen": (
        *("preferred", "better", "good", "winner", "win", "accepted", "positive", "pos", "best"),
        *("chosen_response", "response_chosen", "preferred_response", "chosen_answer", "y_w"),
        *("answer_chosen", "chosen_text", "better_response", "good_response", "output_chosen"),
        *("preferred_output", "chosen_completion", "winning_response", "response_j"),
    ),
    "rejected": (
        *("dispreferred", "worse", "bad", "loser", "lose", "non_preferred_output", "negative"),
        *("rejected_response", "response_rejected", "dispreferred_response", "rejected_answer"),
        *("answer_rejected", "rejected_text", "worse_response", "bad_response", "neg", "worst"),
        *("rejected_completion", "losing_response", "response_k", "output_rejected", "y_l"),
    ),
    "completion": (
        *("response", "output", "answer", "answers", "target", "reply", "assistant", "solution"),
        *("targets", "completions", "generation", "summary"),
    ),
    "label": ("winner", "preference", "preferred", "choice", "good", "liked", "thumbs_up", "vote"),
}
"""Names that people give to what we call otherwise."""


def default_settings(kind: str, path: str = "") -> Any:
    """A data set of a kind with its default settings. Raises ValidationError."""
    return TypeAdapter(Dataset).validate_python({"kind": kind, "path": path})


def has_columns(found: Sequence[str], columns: Columns) -> bool:
    """Whether one of these sets of columns is there whole."""
    return any(set(wanted) <= set(found) for wanted in columns)


def kinds_with(columns: Sequence[str]) -> list[str]:
    """The kinds that read tables with such columns."""
    listed = (*GUESSES[:-1], "parquet")
    return [kind for kind in listed if has_columns(columns, default_settings(kind).column_sets())]


def check_columns(file: str, found: Sequence[str], columns: Columns) -> None:
    """Refuse a table without any of these sets of columns. Raises DataError."""
    if has_columns(found, columns):
        return
    shapes = " or ".join(", ".join(wanted) for wanted in columns[:3])
    kinds = " or ".join(f"kind = '{kind}'" for kind in kinds_with(found))
    listed = ", ".join(found[:12]) + (", ..." if len(found) > 12 else "")
    raise DataError(
        f"{file}: has the columns {listed} where {shapes} are needed; "
        + (f"such columns has {kinds}" if kinds else mapping(found, columns))
    )


def mapping(found: Sequence[str], columns: Columns) -> str:
    """The setting that would read such columns, as far as their names tell."""
    likely = [_likely(wanted, found) for wanted in columns]
    best = max(likely, key=lambda one: sum(theirs is not None for theirs in one.values()))
    named = {ours: theirs or "..." for ours, theirs in best.items() if ours != theirs}
    said = ", ".join(f"{ours} = '{theirs}'" for ours, theirs in named.items())
    if None not in best.values():
        typed = ",".join(f"{ours}={theirs}" for ours, theirs in named.items())
        return f"columns = {{ {said} }} reads them, or --columns {shlex.quote(typed)}"
    return f"say by columns = {{ {said} }} which column is what, or check the dataset's kind"


def _likely(wanted: Sequence[str], found: Sequence[str]) -> dict[str, str | None]:
    """For each column that is wanted the one that it may be, and for a prompt that may be there."""
    plain = {name.lower().replace("-", "_").replace(" ", "_"): name for name in found}

    def like(ours: str) -> str | None:
        names = (ours, *_LIKE.get(ours, ()))
        return ours if ours in found else next((plain[n] for n in names if n in plain), None)

    names = {ours: like(ours) for ours in wanted}
    if "chosen" in names and not set(found) & set(PROMPT_FIELDS) and (prompt := like("prompt")):
        return {"prompt": prompt, **names}
    return names


def renamed(names: Mapping[str, str], row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row under our names; `names` says for each of ours what theirs is."""
    if not names:
        return row
    taken = set(names.values())
    kept = {name: value for name, value in row.items() if name not in names and name not in taken}
    return kept | {ours: row[theirs] for ours, theirs in names.items() if theirs in row}
