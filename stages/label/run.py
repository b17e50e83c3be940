"""The steps of the label stage: shards of prompts, worked off by a judge, joined in order."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from evals.judge_card.floors import refuse_below_floors
from evals.judges import JUDGE_FILE
from schemas.errors import DataError
from schemas.stage import StageContext
from schemas.tables import COMPLETIONS, DECIDING
from stages.label.config import LabelConfig
from stages.label.job import TABLES, LabelJob
from stages.shards.executor import work_off
from stages.shards.job import Counts
from stages.shards.judging import FAILED, say_missing
from stages.shards.results import Results
from stages.shards.work_file import WorkFile, in_shards, sorted_rows


def run(config: LabelConfig, context: StageContext) -> Mapping[str, int]:
    """Judge every two different completions of each prompt in both orders, and pair them.

    Raises:
        DataError: no pair of the train split is left; says why, by reason.
        ConfigError: the judge is below the recipe's floors.
    """
    judge = context.input("judge", JUDGE_FILE).parent
    refuse_below_floors(judge, "label")
    results = Results(context.output, TABLES)
    work = WorkFile(context.output / "work.parquet")
    if not work.is_sound:
        _gather(config, context, work)
    _forget_failed(results)
    job = LabelJob(config, judge.resolve(), context.runtime, work.path.resolve())
    _label(job, context, results)
    counts = results.join(work)
    context.discard(results.folder, work.path, work.seal)
    say_missing(_name_of(judge), counts, context)
    if config.require_pairs:
        _refuse_nothing(counts)
    return counts


def _forget_failed(results: Results) -> None:
    """Have the shards done again in which a server failed to answer: what it answered is kept."""
    for shard in results.done():
        if any(name.startswith(FAILED) for name in results.counts(shard)):
            results.forget(shard)


def _name_of(judge: Path) -> str:
    return str(json.loads((judge / JUDGE_FILE).read_bytes())["name"])


def _gather(config: LabelConfig, context: StageContext, work: WorkFile) -> None:
    """Copy the completions, prompt by prompt, into the work file."""
    path = context.input("sample", COMPLETIONS.file_name)
    batches = sorted_rows(path, COMPLETIONS, "prompt_id", splits=DECIDING)
    work.write(COMPLETIONS, in_shards(batches, "prompt_id", config.shard_size))


def _label(job: LabelJob, context: StageContext, results: Results) -> None:
    work = WorkFile(job.work_file)
    done = results.done()
    missing = [shard for shard in range(len(work)) if shard not in done]
    with context.progress.task("label completions", work.rows(), "completions") as task:
        spent: Counter[str] = Counter()

        def advance(counts: Counts) -> None:
            spent.update({name: counts.get(name, 0) for name in ("verdicts", *_SPENT)})
            task.advance(counts["completions"])
            task.metrics(_shown(spent))

        for shard in done:
            task.advance(results.counts(shard)["completions"])
        work_off(job, missing, context.runtime, advance)
    for warning in results.warnings():
        context.progress.warn(f"label: {warning}")


_SPENT = ("judge_prompt_tokens", "judge_completion_tokens", "judge_cost_millionths")


def _shown(spent: Mapping[str, int]) -> dict[str, float | int]:
    """What this process has spent, for the person who waits."""
    prompt, completion, cost = (spent[name] for name in _SPENT)
    paid = {"tokens": prompt + completion, "cost": cost / 1e6} if prompt else {}
    return {"verdicts": spent["verdicts"], **paid}


_REMEDIES = {
    "identical_completions": "raise sample.temperature, or sample more completions per prompt",
    "single_completion": "sample at least 2 completions per prompt",
    "cut_in_thought": "raise sample.max_tokens: the policy thinks longer than that",
    "truncated": "raise sample.max_tokens, or set label.truncated to rejected_only or keep",
    "chosen_truncated": "raise sample.max_tokens, or set label.truncated to keep",
    "low_margin": "lower label.min_margin",
    "inconsistent": "the judge follows the position: look at its card",
    "tie": "the judge sees no difference: sample more completions, or use another judge",
    "ranking_disagrees": "the judge contradicts itself: look at its card",
}


def _refuse_nothing(counts: Counts) -> None:
    if counts.get("pairs_train"):
        return
    reasons = {k.removeprefix("rejected_"): n for k, n in counts.items() if "rejected_" in k}
    if not reasons:
        what = "has only prompts of the dev split" if counts.get("pairs") else "is empty"
        raise DataError(
            f"label: no preference pair to train on: sample's completions.parquet {what}; "
            "sample prompts of the train split"
        )
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    counted = ", ".join(f"{reason} {count}" for reason, count in ranked)
    remedy = _REMEDIES.get(ranked[0][0], "look at the judge's card and at verdicts.parquet")
    raise DataError(f"label: no preference pair to train on; dropped: {counted}; {remedy}")
