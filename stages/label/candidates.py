"""Which completions of a prompt are compared: every two different texts of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import Any

from schemas.conversations import is_cut_in_thought
from schemas.ids import canonical_messages, comparison_id, own_prompt_id
from schemas.labels import Comparison
from stages.label.config import Truncated

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Candidate:
    """Two completions of one prompt, A the one sampled first, and their rows of COMPLETIONS."""

    comparison: Comparison
    row_a: Row
    row_b: Row


@dataclass(frozen=True)
class PromptCandidates:
    """What one prompt offers.

    `completions`: its different texts, by sample_index; of equal texts the first. `reason` says
    why there is nothing to compare, None where there is. `repeated`, `truncated` and
    `unanswered` count completions left out for either cause.
    """

    completions: Sequence[Row]
    candidates: Sequence[Candidate]
    reason: str | None
    detail: str
    row: Row
    repeated: int
    truncated: int
    unanswered: int = 0


def by_prompt(rows: Sequence[Row], truncated: Truncated) -> Iterator[PromptCandidates]:
    """The candidates of every prompt, prompts sorted by id.

    Args:
        rows: of COMPLETIONS, in any order.
        truncated: `drop` leaves out completions that ran into max_tokens.
    """
    ordered = sorted(rows, key=lambda r: (r["prompt_id"], r["sample_index"], r["completion_id"]))
    for _, group in groupby(ordered, key=lambda r: str(r["prompt_id"])):
        yield _of_prompt(list(group), truncated)


def _of_prompt(rows: Sequence[Row], truncated: Truncated) -> PromptCandidates:
    answered = [r for r in rows if not is_cut_in_thought(r["completion"], r["finish_reason"])]
    usable = [r for r in answered if truncated != "drop" or r["finish_reason"] != "length"]
    first: dict[str, Row] = {}
    for row in usable:
        first.setdefault(canonical_messages(row["completion"]), row)
    completions = list(first.values())
    unanswered = len(rows) - len(answered)
    reason, detail = _nothing_to_compare(len(answered), len(usable), len(completions))
    if unanswered and len(answered) < 2:
        reason = "cut_in_thought"
        detail = f"{unanswered} of {len(rows)} completions ran into max_tokens before an answer"
    return PromptCandidates(
        completions=completions,
        candidates=[_candidate(a, b) for a, b in combinations(completions, 2)],
        reason=reason,
        detail=detail,
        row=rows[0],
        repeated=len(usable) - len(completions),
        truncated=len(answered) - len(usable),
        unanswered=unanswered,
    )


def _nothing_to_compare(sampled: int, usable: int, distinct: int) -> tuple[str | None, str]:
    if distinct > 1:
        return None, ""
    if usable > 1:
        return "identical_completions", f"all {usable} completions have the same text"
    if usable < sampled:
        return "truncated", f"{sampled - usable} of {sampled} completions ran into max_tokens"
    return "single_completion", "only one completion was sampled"


def _candidate(row_a: Row, row_b: Row) -> Candidate:
    prompt, a, b = row_a["prompt"], row_a["completion"], row_b["completion"]
    key = comparison_id(prompt, a, b, asked=own_prompt_id(row_a))
    shown = Comparison(key, row_a["prompt_id"], prompt, a, b, row_a.get("reference"))
    return Candidate(shown, row_a, row_b)
