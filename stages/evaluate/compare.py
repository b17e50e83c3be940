"""One model against another: comparisons, verdicts in both orders, win rates and ratings."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from evals.judges import Judge
from evals.judges.orders import is_failed_call, is_pointwise_judge
from evals.judges.ratings.charging import charged_once
from evals.win_rate.categories import category_rates
from evals.win_rate.differences import adjusted, policy_difference
from evals.win_rate.ratings import ratings
from evals.win_rate.report import JudgedComparisons, win_rate_report
from evals.win_rate.win_rate import IDENTICAL, prompt_scores, win_rate
from schemas.conversations import is_cut_in_thought
from schemas.ids import comparison_id, content_id
from schemas.labels import BOTH_ORDERS, Comparison
from schemas.parquet import write_table
from schemas.results.measures import Measure
from schemas.results.win_rates import Headline, JudgeWinRate, ModelPair, Rate, Ratings
from schemas.stage import StageContext
from schemas.tables import COMPARISONS, VERDICTS
from stages.evaluate.config import BASELINE, POLICY
from stages.shards.judging import judge_all
from stages.shards.kept import KeptWork

Row = dict[str, Any]


class Match:
    """One contestant against the baseline, or another: their comparisons and all verdicts on them.

    The policy's tables are `comparisons` and `verdicts`; others' have their name at the end, those
    of two that are no baseline both names with a plus sign between them.
    """

    def __init__(
        self,
        name: str,
        own: Sequence[Row],
        baseline: Sequence[Row],
        kept: KeptWork,
        context: StageContext,
        against: str = BASELINE,
    ) -> None:
        self.name = name
        self.against = against
        self.own = own
        self.comparisons = comparison_rows(own, baseline)
        self._cut = cut_in_thought([*own, *baseline])
        self._kept = kept
        self._context = context
        both = name if against == BASELINE else f"{name}+{against}"
        self._suffix = "" if both == POLICY else f"_{both}"
        self._said: dict[str, dict[tuple[str, str], Row]] = {}
        self._verdicts: dict[str, list[Row]] = {}

    def judge(self, judge: Judge, opens: Callable[[], Judge]) -> list[Row]:
        """Have a judge give its verdicts, which `opens` opens elsewhere; returns all of them.

        Comparisons of the same texts are asked once and share the verdict; identical completions
        are a tie by definition, recorded as such without asking. Where a side was cut before its
        answer there is no verdict, for that reason. A judge that rates is asked about identical
        ones too, for their rating; they tie whatever it says.
        """
        said = self._said.setdefault(judge.name, {})
        known = {texts for texts, _ in said}
        pointwise = is_pointwise_judge(judge)  # what is rated counts by itself, whatever it ties
        comparisons = [(_comparison(row), self._is_cut(row)) for row in self.comparisons]
        asked = {
            texts: c
            for c, cut in reversed(comparisons)
            if not cut and (pointwise or not _identical(c)) and (texts := _texts(c)) not in known
        }
        title = f"verdicts by {judge.name}{self._suffix.replace('_', ' on ')}"
        shown = sorted(asked.values(), key=lambda c: c.comparison_id)
        texts_of = {c.comparison_id: texts for texts, c in asked.items()}
        for row in judge_all(judge, opens, shown, self._kept, self._context, title):
            said[texts_of[row["comparison_id"]], row["order"]] = row
        verdicts = [
            _unasked(judge, comparison, order.value, cut=cut)
            if cut or (_identical(comparison) and not pointwise)
            else _told(said[_texts(comparison), order.value], comparison)
            for comparison, cut in comparisons
            for order in BOTH_ORDERS
        ]
        self._verdicts[judge.name] = charged_once(verdicts)
        return self._verdicts[judge.name]

    def _is_cut(self, row: Row) -> bool:
        return not self._cut.isdisjoint((row["completion_a_id"], row["completion_b_id"]))

    @property
    def verdicts(self) -> list[Row]:
        """Those of all judges, sorted by the table's key."""
        rows = [row for rows in self._verdicts.values() for row in rows]
        return sorted(rows, key=lambda row: (row["judge"], row["comparison_id"], row["order"]))

    def write(self, folder: Path) -> None:
        """Write both tables."""
        for table, rows in ((COMPARISONS, self.comparisons), (VERDICTS, self.verdicts)):
            write_table(folder / f"{table.name}{self._suffix}.parquet", table, rows)


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
        "reference": policy.get("reference"),
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


def judge_win_rate(judge: Judge, judged: JudgedComparisons, measure: Measure) -> JudgeWinRate:
    """The report on one judge's verdicts, with who judged and the win rate of each category."""
    return JudgeWinRate(
        **dict(win_rate_report(judged, measure)),
        judge=judge.name,
        judge_fingerprint=judge.fingerprint,
        categories=category_rates(judged.verdicts, judged.categories),
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


def between(matches: Sequence[Match], kept: KeptWork, context: StageContext) -> list[Match]:
    """The matches of every two models that were compared with the baseline."""
    return [
        Match(one.name, one.own, other.own, kept, context, against=other.name)
        for one, other in combinations(matches, 2)
    ]


def rated(verdicts: Mapping[tuple[str, str], Sequence[Row]]) -> Ratings | None:
    """The ratings that one judge's verdicts on all matches come to; none below three models."""
    return ratings({pair: prompt_scores(rows) for pair, rows in verdicts.items()}, BASELINE)


def with_head_to_head(
    pairs: Sequence[ModelPair], verdicts: Mapping[tuple[str, str], Sequence[Row]]
) -> list[ModelPair]:
    """The same pairs with the win rates of those that were compared with each other."""
    return [
        pair.model_copy(update={"head_to_head": _rate(rows)})
        if (rows := verdicts.get((pair.first, pair.second)))
        else pair
        for pair in pairs
    ]


def _rate(rows: Sequence[Row]) -> Rate:
    return Rate(**dict(win_rate(rows)))


def _comparison(row: Row) -> Comparison:
    names = ("comparison_id", "prompt_id", "prompt", "completion_a", "completion_b")
    return Comparison(**{name: row[name] for name in names}, reference=row.get("reference"))


def _texts(comparison: Comparison) -> str:
    return comparison_id(comparison.prompt, comparison.completion_a, comparison.completion_b)


def _identical(comparison: Comparison) -> bool:
    return list(comparison.completion_a) == list(comparison.completion_b)


def _told(said: Row, comparison: Comparison) -> Row:
    """What a judge said of these texts, about this comparison of them; identical ones tie."""
    tie = _TIE if _identical(comparison) and not is_failed_call(said) else {}
    return said | tie | {"comparison_id": comparison.comparison_id}


_TIE: Row = {
    "p_a": 0.0,
    "p_b": 0.0,
    "p_tie": 1.0,
    "verdict": "Tie",
    "unscored_reason": None,
    "unscored_detail": None,
    "raw": IDENTICAL,
}


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
        "rated": [] if is_pointwise_judge(judge) else None,
    }
