"""What rows of VERDICTS took, where many of them follow from one rating that was paid once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]


def is_pointwise(row: Mapping[str, Any]) -> bool:
    """Whether a verdict follows from ratings of each completion by itself, and nothing else.

    Both orders of such a comparison are one answer, and no order was ever shown.
    """
    rated = row.get("rated")
    return rated is not None and all(one["rating_id"] is not None for one in rated)


def answers_of(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that are answers of their own: of a pointwise comparison's two orders one."""
    seen: set[tuple[str, str]] = set()
    found = []
    for row in rows:
        if is_pointwise(row):
            key = (row["judge"], row["comparison_id"])
            if key in seen:
                continue
            seen.add(key)
        found.append(row)
    return found


def charged_once(rows: Sequence[Row]) -> list[Row]:
    """The rows with the tokens of each rating in the first that follows from it; 0 in the others.

    Rows without ratings are as they were. The same rows in the same order always give the same.
    """
    seen: set[tuple[str, str]] = set()
    return [_charged(row, seen) for row in rows]


def _charged(row: Row, seen: set[tuple[str, str]]) -> Row:
    if row.get("rated") is None:
        return row
    new = [one for one in row["rated"] if _is_new(one, row["judge_fingerprint"], seen)]
    return row | {
        name: sum(one[name] or 0 for one in new)
        if any(one[name] is not None for one in row["rated"])
        else None
        for name in ("prompt_tokens", "completion_tokens")
    }


def _is_new(one: Mapping[str, Any], judge: str, seen: set[tuple[str, str]]) -> bool:
    if one["rating_id"] is None:
        return True
    key = (judge, one["rating_id"])
    if key in seen:
        return False
    seen.add(key)
    return True


def ratings_counts(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """For a manifest: how many ratings rows of VERDICTS follow from; without any nothing."""
    ids = {
        (row["judge_fingerprint"], one["rating_id"])
        for row in rows
        for one in row.get("rated") or ()
        if one["rating_id"] is not None
    }
    return {"ratings": len(ids)} if ids else {}


def reference_counts(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """For a manifest: comparisons that were judged without a reference answer, and all of them.

    Of a judge that is shown none nothing.
    """
    shown = {
        row["comparison_id"]: row["with_reference"]
        for row in rows
        if row.get("with_reference") is not None
    }
    if not shown:
        return {}
    return {
        "comparisons_with_reference": sum(shown.values()),
        "comparisons_without_reference": len(shown) - sum(shown.values()),
    }
