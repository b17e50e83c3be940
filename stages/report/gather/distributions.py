"""Distributions, binned alike for the groups that a chart compares."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from schemas.conversations import is_cut_in_thought, thought_and_answer
from schemas.labels import Messages
from schemas.tables import COMPARISONS, COMPLETIONS, PREFERENCE_PAIRS
from stages.report.gather.sources import Json, Rows, Sources
from stages.report.page.text import clip

BINS = 24
SHOWN_OUTPUT = 200


def histogram(
    groups: Mapping[str, Sequence[float]],
    unit: str,
    limits: tuple[float, float] | None = None,
    bins: int = BINS,
) -> Json | None:
    """Shares of each group's values in common bins of equal width; None without any value.

    Args:
        groups: name -> values. Whole numbers get bins of whole width.
        unit: what the values count.
        limits: lowest and highest edge; by default the values' own extremes.
        bins: at most that many.

    Returns:
        `{unit, edges [bins + 1], groups: {name: {n, mean, median, p90, max, counts [bins]}}}`.
    """
    known = {name: sorted(values) for name, values in groups.items() if values}
    if not known:
        return None
    edges = _edges([v for values in known.values() for v in values], limits, bins)
    described = {name: _describe(values, edges) for name, values in known.items()}
    return {"unit": unit, "edges": edges, "groups": described}


def _edges(values: Sequence[float], limits: tuple[float, float] | None, bins: int) -> list[float]:
    low, high = limits or (min(values), max(values))
    if limits is None and all(float(v).is_integer() for v in values):
        width = max(1, math.ceil((high - low + 1) / bins))
        count = max(1, math.ceil((high - low + 1) / width))
        # Half a unit lower, so that a whole number stands in the middle of its bin.
        return [low - 0.5 + width * i for i in range(count + 1)]
    if low == high:
        return [low - 0.5, high + 0.5]
    return [low + (high - low) * i / bins for i in range(bins + 1)]


def _describe(values: Sequence[float], edges: Sequence[float]) -> Json:
    counts = [0] * (len(edges) - 1)
    width = (edges[-1] - edges[0]) / len(counts)
    for value in values:
        counts[min(len(counts) - 1, max(0, int((value - edges[0]) / width)))] += 1
    return {
        "n": len(values),
        "mean": math.fsum(values) / len(values),
        "median": quantile(values, 0.5),
        "p90": quantile(values, 0.9),
        "max": values[-1],
        "counts": counts,
    }


def quantile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile of sorted values, interpolated linearly (Hyndman and Fan's type 7)."""
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def preference_data(sources: Sources) -> Json:
    """What the trainer read: pairs by split, their lengths and margins.

    Lengths are tokens where the sampled completions behind the pairs are known, else characters.
    A recipe without [label] trains on the labelled comparisons of ingest; ties are no pairs.
    """
    judged = "label" in sources.manifests
    pairs = sources.columns("label", PREFERENCE_PAIRS, _PAIR) if judged else _given(sources)
    lengths, unit = _lengths(sources, pairs, judged)
    margins = [p["margin"] for p in pairs if p["margin"] is not None]
    bounded = bool(margins) and max(margins) <= 1
    return {
        "n": len(pairs),
        "splits": dict(sorted(Counter(p["split"] for p in pairs).items())),
        "label_sources": dict(sorted(Counter(p["label_source"] for p in pairs).items())),
        "lengths": histogram(lengths, unit),
        "margins": histogram(
            {"pairs": margins},
            "margin" if judged else "strength",
            (0.0, 1.0) if bounded else None,
            20,
        ),
    }


_PAIR = ("split", "label_source", "margin", "chosen_id", "rejected_id")
_GIVEN = ("split", "label_source", "strength", "label", "completion_a", "completion_b")


def _given(sources: Sources) -> Rows:
    """The labelled comparisons of ingest that are no ties, as pairs with their texts."""
    rows = sources.columns("ingest", COMPARISONS, _GIVEN)
    return [
        {
            "split": row["split"],
            "label_source": row["label_source"],
            "margin": row["strength"],
            "chosen": row["completion_a" if row["label"] == "A" else "completion_b"],
            "rejected": row["completion_b" if row["label"] == "A" else "completion_a"],
        }
        for row in rows
        if row["label"] in ("A", "B")
    ]


def _lengths(sources: Sources, pairs: Rows, judged: bool) -> tuple[dict[str, list[int]], str]:
    tokens = {
        row["completion_id"]: row["num_tokens"]
        for row in sources.columns("sample", COMPLETIONS, ("completion_id", "num_tokens"))
        if row["num_tokens"] is not None
    }
    if judged and all(p[f"{side}_id"] in tokens for p in pairs for side in _SIDES):
        return {side: [tokens[p[f"{side}_id"]] for p in pairs] for side in _SIDES}, "tokens"
    texts = sources.columns("label", PREFERENCE_PAIRS, _SIDES) if judged else pairs
    return {side: [_characters(p[side]) for p in texts] for side in _SIDES}, "characters"


_SIDES = ("chosen", "rejected")


def _characters(messages: Messages) -> int:
    return sum(len(thought_and_answer(m)[1]) for m in messages)


def outputs(completions: Mapping[str, Rows]) -> Json:
    """What each model wrote on the held-out prompts: lengths, and signs of collapse."""
    known = all(row["num_tokens"] is not None for rows in completions.values() for row in rows)
    lengths = {
        name: [row["num_tokens"] if known else _characters(row["completion"]) for row in rows]
        for name, rows in completions.items()
    }
    return {
        "lengths": histogram(lengths, "tokens" if known else "characters"),
        "models": {name: _habits(rows) for name, rows in completions.items() if rows},
    }


def _habits(rows: Rows) -> Json:
    apart = [[thought_and_answer(m) for m in row["completion"]] for row in rows]
    texts = Counter("\n".join(said for _, said in turns) for turns in apart)
    thoughts = [n for turns in apart if (n := sum(len(thought) for thought, _ in turns))]
    # Among equally frequent texts the first in order, so that the page is always the same.
    text, count = min(texts.items(), key=lambda item: (-item[1], item[0]))
    return {
        "n": len(rows),
        "distinct": len(texts),
        "most_common": clip(text, SHOWN_OUTPUT)[0],
        "most_common_share": count / len(rows),
        "empty_share": sum(n for t, n in texts.items() if not t.strip()) / len(rows),
        "thinking_share": len(thoughts) / len(rows),
        "thinking_characters": sum(thoughts) / len(thoughts) if thoughts else None,
        "answer_characters": sum(len(text) * n for text, n in texts.items()) / len(rows),
        "cut_in_thought_share": sum(
            is_cut_in_thought(row["completion"], row["finish_reason"]) for row in rows
        )
        / len(rows),
        "truncated_share": sum(row["finish_reason"] == "length" for row in rows) / len(rows),
    }
