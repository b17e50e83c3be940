"""Signs that a win rate means less than it says. Each is a named warning with its numbers.

A detector gives at most one finding, and none where nothing is amiss. Shares are in [0, 1].
"""

import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from evals.judges.layout import neutralise_text
from evals.judges.ratings.charging import is_pointwise
from evals.win_rate.lengths import THIN_OVERLAP
from evals.win_rate.win_rate import VerdictRow
from schemas.labels import Order
from schemas.results.win_rates import Finding, Overlap

MIN_OUTPUTS = 10
"""Fewer outputs than this may well be alike by chance."""

CONSTANT_SHARE = 0.5
SIMILAR = 0.5
TRUNCATED_SHARE = 0.05
MARKER_SHARE = 0.01
IMBALANCE_Z = 2.58

_SHINGLE_WORDS = 3

# Parts of other tools' judge prompts; our own layout's are known to `neutralise_text`.
_OTHER_PROMPTS = re.compile(
    r"\"?model_identifier\"?\s*:|##\s*Model Outputs\b|\[The (?:Start|End) of Assistant [AB]"
    r"|<\|The (?:Start|End) of Assistant [AB]",
    re.IGNORECASE,
)

_FAMILIES = re.compile(
    r"(?<![a-z])(gpt|chatgpt|davinci|claude|llama|vicuna|qwen|mistral|mixtral|gemma|gemini|phi|"
    r"deepseek|olmo|yi|falcon|command-r|smollm|granite)(?![a-z])"
)
# Names under which one maker's models or their descendants go.
_SAME_FAMILY = {
    "chatgpt": "gpt",
    "davinci": "gpt",
    "vicuna": "llama",
    "mixtral": "mistral",
    "gemini": "gemma",
}


def constant_outputs(side: str, texts: Sequence[str]) -> Finding | None:
    """One text, or one template, for most prompts: what it wins, it wins against the judge.

    Flagged where one text makes up `CONSTANT_SHARE` of the outputs, or where the median overlap of
    two neighbouring outputs (Jaccard index of their sets of three words in a row) reaches
    `SIMILAR`.

    Args:
        side: whose outputs, as the warning shall call it.
        texts: one output per prompt, neighbours being of unrelated prompts.
    """
    if len(texts) < MIN_OUTPUTS:
        return None
    counts = Counter(text.strip() for text in texts)
    share = counts.most_common(1)[0][1] / len(texts)
    shingles = [_shingles(text) for text in texts]
    overlap = statistics.median(_jaccard(one, other) for one, other in pairwise(shingles))
    if share < CONSTANT_SHARE and overlap < SIMILAR:
        return None
    said = f"{share:.0%} of its outputs are one and the same text"
    if share < CONSTANT_SHARE:
        said = f"neighbouring outputs share {overlap:.0%} of their wording"
    return _finding(
        "constant_outputs",
        f"the {side} answers different prompts alike: {said}",
        {"side": side, "n": len(texts), "distinct": len(counts), "most_common_share": share}
        | {"median_overlap": overlap},
    )


def constant_lengths(side: str, lengths: Sequence[int]) -> Finding | None:
    """`constant_outputs` where only lengths in characters are known: most are of one length."""
    if len(lengths) < MIN_OUTPUTS:
        return None
    (length, count), *_ = Counter(lengths).most_common(1)
    share = count / len(lengths)
    if share < CONSTANT_SHARE:
        return None
    return _finding(
        "constant_outputs",
        f"the {side} may answer different prompts alike: {share:.0%} of its outputs are "
        f"{length} characters long",
        {"side": side, "n": len(lengths), "most_common_length": length, "most_common_share": share},
    )


def empty_outputs(side: str, texts: Sequence[str]) -> Finding | None:
    """Outputs without a character that can be seen."""
    empty = sum(not text.strip() for text in texts)
    if not empty:
        return None
    return _counted("empty_outputs", f"{side} outputs are empty", side, empty, len(texts))


def truncated_outputs(side: str, finish_reasons: Sequence[str]) -> Finding | None:
    """Outputs cut off at the token limit, where they are `TRUNCATED_SHARE` or more of all."""
    cut = finish_reasons.count("length")
    if not cut or cut < TRUNCATED_SHARE * len(finish_reasons):
        return None
    words = f"{side} outputs were cut off at the token limit; raise max_tokens"
    return _counted("truncated_outputs", words, side, cut, len(finish_reasons))


def judge_markers(side: str, texts: Sequence[str]) -> Finding | None:
    """Outputs that hold a verdict, a judge prompt's marker or a chat template's token.

    Flagged from `MARKER_SHARE` of all: a table or a dialogue may hold such text in good faith.
    """
    marked = sum(
        neutralise_text(text) != text or _OTHER_PROMPTS.search(text) is not None for text in texts
    )
    if not marked or marked < MARKER_SHARE * len(texts):
        return None
    words = f"{side} outputs hold verdicts, judge markers or template tokens"
    return _counted("judge_markers", words, side, marked, len(texts))


def same_family(judge: str, policy: str) -> Finding | None:
    """Judge and policy are of one model family by their names: it may prefer its own kind."""
    shared = sorted(_families(judge) & _families(policy))
    if not shared:
        return None
    return _finding(
        "same_family",
        f"judge {judge} and policy {policy} are both of the {shared[0]} family",
        {"family": shared[0], "judge": judge, "policy": policy},
    )


def thin_length_overlap(overlap: Overlap) -> Finding | None:
    """Hardly any prompt has completions of like length: length control extrapolates."""
    if not overlap.thin:
        return None
    share = overlap.share_of_like_length
    return _finding(
        "thin_length_overlap",
        f"only {share:.1%} of the prompts have completions of like length (less than "
        f"{THIN_OVERLAP:.0%}): the length-controlled rate is an extrapolation",
        overlap.to_json(),
    )


def order_imbalance(
    verdicts: Iterable[VerdictRow], categories: Mapping[str, str | None]
) -> Finding | None:
    """Categories whose policy was shown first more, or less, often than chance explains.

    A judge's bias for a place then moves the category's win rate. |z| of the binomial test against
    one half reaches `IMBALANCE_Z`; both orders of every comparison are in balance.
    """
    orders: dict[str, list[bool]] = defaultdict(list)
    for row in verdicts:
        if is_pointwise(row):  # no order was shown
            continue
        orders[categories.get(row["prompt_id"]) or "all"].append(row["order"] == Order.AB)
    odd = {
        name: {"n": len(first), "share_first": sum(first) / len(first)}
        for name, first in sorted(orders.items())
        if abs(2 * sum(first) - len(first)) >= IMBALANCE_Z * math.sqrt(len(first))
    }
    if not odd:
        return None
    named = ", ".join(f"{name} {found['share_first']:.0%}" for name, found in odd.items())
    return _finding(
        "order_imbalance", f"shown first more or less often than half the time: {named}", odd
    )


def _finding(name: str, detail: str, numbers: Mapping[str, Any]) -> Finding:
    return Finding(name=name, detail=detail, numbers=dict(numbers))


def _counted(name: str, words: str, side: str, count: int, n: int) -> Finding:
    numbers = {"side": side, "n": n, "count": count, "share": count / n}
    return _finding(name, f"{count} of {n} {words}", numbers)


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = text.casefold().split()
    last = max(1, len(words) - _SHINGLE_WORDS + 1)
    return frozenset(tuple(words[i : i + _SHINGLE_WORDS]) for i in range(last))


def _jaccard(one: frozenset[Any], other: frozenset[Any]) -> float:
    return len(one & other) / len(one | other)


def _families(name: str) -> set[str]:
    found = _FAMILIES.findall(name.casefold().replace("_", "-"))
    return {_SAME_FAMILY.get(family, family) for family in found}
