"""The steps of the label stage: judge every two completions of a prompt, then pair them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from evals.judge_floors import refuse_below_floors
from evals.judges import open_judge
from evals.judges.orders import judge_to_table, verdict_of
from evals.judges.watching import spending_counts
from schemas.errors import DataError
from schemas.labels import Order
from schemas.parquet import read_rows, write_table
from schemas.stage import StageContext
from schemas.tables import COMPARISONS, COMPLETIONS, PREFERENCE_PAIRS, REJECTS
from stages.label import LabelConfig
from stages.label.candidates import PromptCandidates, by_prompt
from stages.label.rows import comparison_row, drop_row, pair_row, prompt_drop_row
from stages.label.selection import Drop, Judged, Outcome, all_pairs, best_vs_worst

_SELECTIONS = {"best_vs_worst": best_vs_worst, "all_pairs": all_pairs}


def run(config: LabelConfig, context: StageContext) -> Mapping[str, int]:
    """Judge every two different completions of each prompt in both orders, and pair them.

    Raises:
        DataError: no pair of the train split is left; says why, by reason.
        ConfigError: the judge is below the recipe's floors.
    """
    refuse_below_floors(context.input("judge", "judge.json").parent, "label")
    completions = read_rows(context.input("sample", COMPLETIONS.file_name), COMPLETIONS)
    prompts = list(by_prompt(completions, config.truncated))
    judge = open_judge(context.input("judge", "judge.json").parent, context.runtime)
    candidates = [c for prompt in prompts for c in prompt.candidates]
    rows = judge_to_table(
        judge,
        [c.comparison for c in candidates],
        context.output,
        context.progress,
        "label completions",
    )
    judged = _judged(prompts, rows, config.min_margin)
    outcomes = [o for group in judged for o in _SELECTIONS[config.pairs](group, config.truncated)]
    pairs = [pair_row(o, judge.name) for o in outcomes if isinstance(o, Judged)]
    rejects = _reject_rows(prompts, outcomes)
    compared = [comparison_row(one, judge.name) for group in judged for one in group]
    for table, made, key in (
        (COMPARISONS, compared, "comparison_id"),
        (PREFERENCE_PAIRS, pairs, "pair_id"),
        (REJECTS, rejects, "raw"),
    ):
        write_table(context.output / table.file_name, table, sorted(made, key=lambda r: r[key]))
    reasons = Counter(str(r["reason"]) for r in rejects)
    _refuse_nothing(pairs, reasons)
    return {
        "completions": len(completions),
        "completions_repeated": sum(p.repeated for p in prompts),
        "completions_truncated_dropped": sum(p.truncated for p in prompts),
        "prompts": len(prompts),
        "comparisons": len(candidates),
        "verdicts": len(rows),
        **spending_counts(judge, rows),
        "candidates": len(pairs) + len(rejects),
        "pairs": len(pairs),
        "pairs_train": sum(r["split"] == "train" for r in pairs),
        "pairs_test": sum(r["split"] == "test" for r in pairs),
        **{f"rejected_{reason}": count for reason, count in sorted(reasons.items())},
    }


def _judged(
    prompts: Sequence[PromptCandidates], rows: Sequence[Mapping[str, Any]], min_margin: float
) -> list[list[Judged]]:
    """What the judge said, by prompt, for the prompts that had something to compare."""
    verdicts = {(r["comparison_id"], Order(r["order"])): verdict_of(r) for r in rows}
    return [
        [
            Judged.of(
                candidate,
                {order: verdicts[candidate.comparison.comparison_id, order] for order in Order},
                min_margin,
            )
            for candidate in prompt.candidates
        ]
        for prompt in prompts
        if prompt.candidates
    ]


def _reject_rows(
    prompts: Sequence[PromptCandidates], outcomes: Sequence[Outcome]
) -> list[dict[str, Any]]:
    nothing = [prompt_drop_row(p) for p in prompts if p.reason is not None]
    return nothing + [drop_row(o) for o in outcomes if isinstance(o, Drop)]


_REMEDIES = {
    "identical_completions": "raise sample.temperature, or sample more completions per prompt",
    "single_completion": "sample at least 2 completions per prompt",
    "truncated": "raise sample.max_tokens, or set label.truncated to rejected_only or keep",
    "chosen_truncated": "raise sample.max_tokens, or set label.truncated to keep",
    "low_margin": "lower label.min_margin",
    "inconsistent": "the judge follows the position: look at its card",
    "tie": "the judge sees no difference: sample more completions, or use another judge",
    "ranking_disagrees": "the judge contradicts itself: look at its card",
}


def _refuse_nothing(pairs: Sequence[Mapping[str, Any]], reasons: Mapping[str, int]) -> None:
    if any(r["split"] == "train" for r in pairs):
        return
    if not reasons:
        what = "has only prompts of the test split" if pairs else "is empty"
        raise DataError(
            f"label: no preference pair to train on: sample's completions.parquet {what}; "
            "sample prompts of the train split"
        )
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    counted = ", ".join(f"{reason} {count}" for reason, count in ranked)
    remedy = _REMEDIES.get(ranked[0][0], "look at the judge's card and at verdicts.parquet")
    raise DataError(f"label: no preference pair to train on; dropped: {counted}; {remedy}")
