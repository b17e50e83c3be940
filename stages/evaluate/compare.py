"""One model against the baseline: comparisons, verdicts in both orders, win rates."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from evals.judges import Judge
from evals.judges.orders import judge_both_orders
from evals.win_rate.differences import adjusted, policy_difference
from evals.win_rate.report import JudgedComparisons, win_rate_report
from evals.win_rate.win_rate import IDENTICAL, win_rates_by_category
from schemas.conversations import is_cut_in_thought
from schemas.ids import comparison_id, content_id
from schemas.labels import BOTH_ORDERS, Comparison
from schemas.parquet import write_table
from schemas.results.win_rates import Headline, JudgeWinRate, Measure, ModelPair
from schemas.sharded import ShardedTable
from schemas.stage import Progress, StageContext
from schemas.tables import COMPARISONS, VERDICTS
from stages.evaluate.config import BASELINE, POLICY

Row = dict[str, Any]


class Match:
    """One contestant against the baseline: their comparisons, and all verdicts on them.

    The policy's tables are `comparisons` and `verdicts`; others' have their name at the end.
    """

    def __init__(self, name: str, context: StageContext) -> None:
        self.name = name
        self.comparisons: list[Row] = []
        self._cut: set[str] = set()
        self._context = context
        self._suffix = "" if name == POLICY else f"_{name}"
        self._verdicts = ShardedTable(context.output, VERDICTS, f"verdicts{self._suffix}")

    def pair(self, own: Sequence[Row], baseline: Sequence[Row]) -> None:
        """Make the comparisons."""
        self.comparisons = comparison_rows(own, baseline)
        cut = cut_in_thought([*own, *baseline])
        self._cut = {
            row["comparison_id"]
            for row in self.comparisons
            if {row["completion_a_id"], row["completion_b_id"]} & cut
        }

    def judge(self, judge: Judge) -> list[Row]:
        """Have a judge give what is missing of its verdicts; returns all that it gave."""
        whose = "" if self.name == POLICY else f" on {self.name}"
        title = f"verdicts by {judge.name}{whose}"
        progress = self._context.progress
        judge_rows(judge, self.comparisons, self._verdicts, progress, title, self._cut)
        return [row for row in self._verdicts.rows() if row["judge"] == judge.name]

    def merge(self) -> tuple[int, int]:
        """Write both tables; returns the number of verdicts and how many are unscored."""
        unscored = sum(row["verdict"] is None for row in self._verdicts.rows())
        table = replace(COMPARISONS, name=f"comparisons{self._suffix}")
        write_table(self._context.output / table.file_name, table, self.comparisons)
        return self._verdicts.merge(("judge", "comparison_id", "order")), unscored


def cut_in_thought(completions: Sequence[Row]) -> set[str]:
    """Ids of the completions that ran into max_tokens before they came to an answer."""
    return {
        row["completion_id"]
        for row in completions
        if is_cut_in_thought(row["completion"], row["finish_reason"])
    }


def comparison_rows(policy: Sequence[Row], baseline: Sequence[Row]) -> list[Row]:
    """One comparison per prompt and sample number that both models have answered; A = policy.

    Several samples may say the same, so the id is made of the two completions' ids and not of
    their texts alone.
    """
    by_place = {(row["prompt_id"], row["sample_index"]): row for row in baseline}
    pairs = [
        (row, other)
        for row in policy
        if (other := by_place.get((row["prompt_id"], row["sample_index"]))) is not None
    ]
    return sorted((_comparison_row(a, b) for a, b in pairs), key=lambda row: row["comparison_id"])


def _comparison_row(policy: Row, baseline: Row) -> Row:
    kept = ("prompt_id", "prompt", "split", "category", "source", "file", "row")
    return {name: policy[name] for name in kept} | {
        "comparison_id": content_id(
            "comparison-of-samples", policy["completion_id"], baseline["completion_id"]
        ),
        "completion_a": policy["completion"],
        "completion_b": baseline["completion"],
        "completion_a_id": policy["completion_id"],
        "completion_b_id": baseline["completion_id"],
        "label": None,
        "strength": None,
        "annotations": [],
        "label_source": None,
    }


def judge_rows(
    judge: Judge,
    rows: Sequence[Row],
    verdicts: ShardedTable,
    progress: Progress,
    title: str,
    cut: Container[str] = (),
) -> None:
    """Add a judge's verdicts on all comparisons in both orders; what is there is not asked again.

    Comparisons of the same texts are asked once and share the verdict; identical completions are
    a tie by definition, recorded as such without asking. Those in `cut`, by id, have a side without
    an answer: they are unscored, with that reason.
    """
    comparisons = [_comparison(row) for row in rows]
    whole = [c for c in comparisons if c.comparison_id not in cut]
    first_of = {_texts(c): c for c in reversed(whole)}
    asked = [c for c in whole if first_of[_texts(c)] is c and not _identical(c)]
    judge_both_orders(judge, asked, verdicts, progress, title)
    done = verdicts.done("comparison_id", "judge")
    rest = [c for c in comparisons if (c.comparison_id, judge.name) not in done]
    said = {
        (r["comparison_id"], r["order"]): r for r in verdicts.rows() if r["judge"] == judge.name
    }

    def verdict(comparison: Comparison, order: str) -> Row:
        is_cut = comparison.comparison_id in cut
        if is_cut or _identical(comparison):
            return _unasked(judge, comparison, order, cut=is_cut)
        shared = said[first_of[_texts(comparison)].comparison_id, order]
        return shared | {"comparison_id": comparison.comparison_id}

    added = [verdict(comparison, order.value) for comparison in rest for order in BOTH_ORDERS]
    if added:
        verdicts.append(added)


def judge_win_rate(judge: Judge, judged: JudgedComparisons, measure: Measure) -> JudgeWinRate:
    """The report on one judge's verdicts, with who judged and the win rate of each category."""
    return JudgeWinRate(
        **dict(win_rate_report(judged, measure)),
        judge=judge.name,
        judge_fingerprint=judge.fingerprint,
        categories=win_rates_by_category(judged.verdicts, judged.categories),
    )


def model_pairs(
    scores: Mapping[str, Mapping[str, float]], headline: Headline | None = None
) -> list[ModelPair]:
    """Every two models, paired by prompt; the baseline scores 0.5 against itself.

    Args:
        scores: model -> prompt_id -> score against the baseline; the policy first.
        headline: what says how policy and baseline compare: that was declared, and no other
            place says it again.

    Returns:
        One for each two models with a common prompt; `p_holm` counts all of them.
    """
    prompts = {prompt for of in scores.values() for prompt in of}
    known = {**scores, BASELINE: dict.fromkeys(sorted(prompts), 0.5)}
    found = {
        (first, second): difference
        for first, second in combinations(known, 2)
        if (difference := policy_difference(known[first], known[second])) is not None
    }
    return [
        ModelPair(
            **dict(one)
            | ({"verdict": headline.verdict} if headline and pair == (POLICY, BASELINE) else {}),
            first=pair[0],
            second=pair[1],
        )
        for pair, one in adjusted(found).items()
    ]


def _comparison(row: Row) -> Comparison:
    names = ("comparison_id", "prompt_id", "prompt", "completion_a", "completion_b")
    return Comparison(**{name: row[name] for name in names})


def _texts(comparison: Comparison) -> str:
    return comparison_id(comparison.prompt, comparison.completion_a, comparison.completion_b)


def _identical(comparison: Comparison) -> bool:
    return list(comparison.completion_a) == list(comparison.completion_b)


def _unasked(judge: Judge, comparison: Comparison, order: str, *, cut: bool) -> Row:
    """What is known without the judge: identical completions tie, one without answer is none."""
    tie = None if cut else 0.0
    return {
        "comparison_id": comparison.comparison_id,
        "prompt_id": comparison.prompt_id,
        "judge": judge.name,
        "judge_fingerprint": judge.fingerprint,
        "order": order,
        "p_a": tie,
        "p_b": tie,
        "p_tie": None if cut else 1.0,
        "label_mass": None,
        "verdict": None if cut else "Tie",
        "unscored_reason": "cut_in_thought" if cut else None,
        "unscored_detail": "a side ran into max_tokens before its answer" if cut else None,
        "raw": "" if cut else IDENTICAL,
        "prompt_tokens": None,
        "completion_tokens": None,
    }
