"""Our comparisons and pairs in the formats that others read, row by row.

Beside the columns a format defines stand a few of ours (ids, side, strength), which its readers
pass over and `ingest` reads again: TRL's `prompt, chosen, rejected` says neither who was A nor how
strongly, and the cookbook's line says no strength. Ids, labels, strengths and texts come back as
they were; what single annotators said goes along in our own formats only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from schemas.labels import Preference
from schemas.tables import MESSAGES, TEMPLATE_COLUMNS

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Skipped:
    """A row that the format cannot hold, and why."""

    reason: str


Converted = dict[str, Any] | Skipped

TRL_NAMES: Mapping[str, str] = {"reasoning": "reasoning_content"}
"""What TRL and chat templates call fields of a message that our tables call otherwise."""
TRL_TOOL_CALLS = pa.list_(
    pa.struct(
        [
            ("id", pa.string()),
            ("type", pa.string()),
            ("function", pa.struct([("name", pa.string()), ("arguments", pa.string())])),
        ]
    )
)


def trl_turns(turns: Any) -> list[dict[str, Any]]:
    """Messages as TRL renders them: thoughts are `reasoning_content`, calls have their type."""
    return [_trl_turn(turn) for turn in turns]


def _trl_turn(turn: Row) -> dict[str, Any]:
    named = {TRL_NAMES.get(name, name): value for name, value in turn.items()}
    if turn.get("tool_calls"):
        named["tool_calls"] = [{"type": "function", **call} for call in turn["tool_calls"]]
    return named


TRL_SCHEMA = pa.schema(
    [
        ("prompt", MESSAGES),
        ("chosen", MESSAGES),
        ("rejected", MESSAGES),
        # As in trl-lib's data sets: equal scores are a tie, null where nobody said how strongly.
        ("score_chosen", pa.float64()),
        ("score_rejected", pa.float64()),
        # The side, A or B, that chosen stands on in our tables; null for pairs.
        ("chosen_side", pa.string()),
        # As our tables have it; the scores cannot tell a strength of 0 from none.
        ("strength", pa.float64()),
        ("label_source", pa.string()),
        ("category", pa.string()),
        ("prompt_id", pa.string()),
        ("comparison_id", pa.string()),
        # As JSON text, where any row has them.
        ("tools", pa.string()),
        ("chat_template_kwargs", pa.string()),
    ]
)
"""TRL's explicit conversational preference format, and what we need to read it back."""


def comparison_to_trl(row: Row) -> Converted:
    """A labelled comparison as TRL's preference; a Tie has two equal scores."""
    label = row["label"]
    if label is None:
        return Skipped("unlabelled")
    side = "B" if label == Preference.B else "A"
    a, b = row["completion_a"], row["completion_b"]
    chosen, rejected = _scores(label, row["strength"])
    return {
        "prompt": trl_turns(row["prompt"]),
        "chosen": trl_turns(a if side == "A" else b),
        "rejected": trl_turns(b if side == "A" else a),
        "score_chosen": chosen,
        "score_rejected": rejected,
        "chosen_side": side,
        **{name: row[name] for name in ("strength", "label_source", "category")},
        **{name: row[name] for name in ("prompt_id", "comparison_id")},
        **_template(row),
    }


def _template(row: Row) -> dict[str, Any]:
    return {name: row.get(name) for name in sorted(TEMPLATE_COLUMNS)}


def _scores(label: str, strength: float | None) -> tuple[float | None, float | None]:
    """Two scores whose difference is the strength; equal ones only for a Tie."""
    if label == Preference.TIE:
        return 0.0, 0.0
    return (strength, 0.0) if strength else (None, None)


def pair_to_trl(row: Row) -> Converted:
    """A preference pair as TRL's preference."""
    chosen, rejected = _scores(Preference.A, row["margin"])
    shared = ("label_source", "prompt_id", "comparison_id")
    return {
        **{name: trl_turns(row[name]) for name in ("prompt", "chosen", "rejected")},
        **{name: row[name] for name in shared},
        **_template(row),
        "score_chosen": chosen,
        "score_rejected": rejected,
        "chosen_side": None,
        "strength": row["margin"],
        "category": None,
    }


def comparison_to_cookbook(row: Row) -> Converted:
    """A labelled comparison as the cookbook reads it: `{"comparison": ..., "label": ...}`."""
    if row["label"] is None:
        return Skipped("unlabelled")
    beside = ("strength", "label_source", "category", "prompt_id", "comparison_id")
    return {
        "comparison": _cookbook(row["prompt"], row["completion_a"], row["completion_b"]),
        "label": row["label"],
        **{name: row[name] for name in beside if row[name] is not None},
    }


def pair_to_cookbook(row: Row) -> Converted:
    """A preference pair as such a line; which side is A is decided by the pair's id."""
    chosen_first = int(row["pair_id"][:8], 16) % 2 == 0
    sides = (row["chosen"], row["rejected"])
    beside = {"strength": row["margin"], "label_source": row["label_source"]}
    return {
        "comparison": _cookbook(row["prompt"], *(sides if chosen_first else sides[::-1])),
        "label": "A" if chosen_first else "B",
        **{name: value for name, value in beside.items() if value is not None},
        "pair_id": row["pair_id"],
    }


def _cookbook(prompt: Any, a: Any, b: Any) -> dict[str, Any]:
    return {"prompt_conversation": prompt, "completion_A": a, "completion_B": b}


TO_TRL: Mapping[str, Callable[[Row], Converted]] = {
    "comparisons": comparison_to_trl,
    "preference_pairs": pair_to_trl,
}
TO_COOKBOOK: Mapping[str, Callable[[Row], Converted]] = {
    "comparisons": comparison_to_cookbook,
    "preference_pairs": pair_to_cookbook,
}
