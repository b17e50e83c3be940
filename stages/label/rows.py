"""Rows of the tables that label writes."""

import json
from typing import Any

from schemas.ids import own_prompt_id, pair_id
from schemas.labels import Preference
from schemas.tables import TEMPLATE_COLUMNS
from stages.label.candidates import PromptCandidates, Row
from stages.label.selection import Drop, Judged

_LINEAGE = ("split", "source", "file", "row")


def comparison_row(one: Judged, judge: str) -> dict[str, Any]:
    """Row of COMPARISONS: labelled where both orders agree on a side or on a tie, else null."""
    candidate, label = one.candidate, one.resolution.label
    said = label is not None and (one.resolution.usable or label is Preference.TIE)
    return {
        "comparison_id": candidate.comparison.comparison_id,
        "prompt_id": candidate.comparison.prompt_id,
        "prompt": candidate.comparison.prompt,
        "completion_a": candidate.comparison.completion_a,
        "completion_b": candidate.comparison.completion_b,
        "label": label.value if label is not None and said else None,
        "strength": one.resolution.margin if said else None,
        "annotations": [],
        "label_source": judge if said else None,
        "completion_a_id": candidate.row_a["completion_id"],
        "completion_b_id": candidate.row_b["completion_id"],
        "category": candidate.row_a["category"],
        "reference": candidate.row_a.get("reference"),
        **_lineage(candidate.row_a),
    }


def pair_row(one: Judged, judge: str) -> dict[str, Any]:
    """Row of PREFERENCE_PAIRS for a resolved comparison."""
    chosen, rejected = one.chosen_row, one.rejected_row
    comparison = one.candidate.comparison
    return {
        "pair_id": pair_id(
            comparison.prompt,
            chosen["completion"],
            rejected["completion"],
            asked=own_prompt_id(chosen),
        ),
        "prompt_id": comparison.prompt_id,
        "prompt": comparison.prompt,
        "chosen": chosen["completion"],
        "rejected": rejected["completion"],
        "margin": one.resolution.margin,
        "consistent": True,  # anything else has been dropped
        "label_source": judge,
        "comparison_id": comparison.comparison_id,
        "chosen_id": chosen["completion_id"],
        "rejected_id": rejected["completion_id"],
        **_tokens(chosen, rejected),
        **_lineage(one.candidate.row_a),
    }


def _tokens(chosen: Row, rejected: Row) -> dict[str, Any]:
    """The tokens that both completions were drawn as, where they were drawn alike."""
    if chosen.get("tokens_of") is None or chosen["tokens_of"] != rejected.get("tokens_of"):
        return {}
    return {
        "chosen_token_ids": chosen["completion_ids"],
        "rejected_token_ids": rejected["completion_ids"],
        "chosen_logps": chosen["completion_logps"],
        "rejected_logps": rejected["completion_logps"],
        "tokens_of": chosen["tokens_of"],
        "policy": chosen["policy"] if chosen["policy"] == rejected["policy"] else None,
    }


def drop_row(drop: Drop) -> dict[str, Any]:
    """Row of REJECTS for a candidate that makes no pair."""
    candidate = drop.judged.candidate
    ids = {
        "comparison_id": candidate.comparison.comparison_id,
        "prompt_id": candidate.comparison.prompt_id,
        "completion_a_id": candidate.row_a["completion_id"],
        "completion_b_id": candidate.row_b["completion_id"],
    }
    return _reject(candidate.row_a, drop.reason, drop.detail, ids)


def prompt_drop_row(prompt: PromptCandidates) -> dict[str, Any]:
    """Row of REJECTS for a prompt whose completions offer nothing to compare."""
    ids = {
        "prompt_id": prompt.row["prompt_id"],
        "completion_ids": [r["completion_id"] for r in prompt.completions],
    }
    return _reject(prompt.row, prompt.reason or "", prompt.detail, ids)


def _lineage(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in _LINEAGE} | {n: row.get(n) for n in TEMPLATE_COLUMNS}


def _reject(row: Row, reason: str, detail: str, ids: dict[str, Any]) -> dict[str, Any]:
    return {
        "table": "preference_pairs",
        "reason": reason,
        "detail": detail,
        "file": row["file"],
        "row": row["row"],
        "raw": json.dumps(ids, sort_keys=True),
    }
