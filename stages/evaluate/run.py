"""The stage from prompts to win rates. One model is in memory at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

from evals.files.verdicts import judged_comparisons
from evals.judge_card.floors import refuse_below_floors
from evals.judges import Judge, open_judge
from evals.models.samplers import open_sampler
from evals.win_rate.win_rate import prompt_scores
from schemas.errors import ConfigError, DataError
from schemas.files import write_json
from schemas.parquet import write_table
from schemas.sharded import ShardedTable
from schemas.stage import StageContext
from schemas.tables import COMPARISONS, REJECTS, VERDICTS
from stages.evaluate.benchmarks import Benchmarks
from stages.evaluate.compare import comparison_rows, judge_rows, win_rate_json
from stages.evaluate.config import EvaluateConfig
from stages.evaluate.extra_models import OtherModel, differences
from stages.evaluate.models import (
    Contender,
    Role,
    contenders,
    judge_model_name,
    policy_model_name,
)
from stages.evaluate.sampling import Completions, read_prompts

Row = dict[str, Any]


def evaluate(config: EvaluateConfig, context: StageContext) -> Mapping[str, int]:
    """Run the stage; see `stages.evaluate.run`.

    Raises:
        ConfigError: no model to evaluate or to beat, two judges of one name, or a judge below the
            recipe's floors.
        DataError: no prompts of that split, or none that both models could answer.
    """
    if context.has("judge"):
        refuse_below_floors(context.inputs["judge"], "evaluate")
    prompts = read_prompts(
        context.input("ingest", "prompts.parquet"), config.split, config.max_prompts
    )
    models = contenders(config, context)
    benchmarks = Benchmarks(config, context)
    sampled = {role: Completions(role, prompts, config, context) for role in models}
    # The baseline first: some tasks compare with what it wrote.
    for role in ("baseline", "policy"):
        _write(models[role], sampled[role], benchmarks, config, context)
    for contender in models.values():
        benchmarks.score(contender)
    benchmarks.judge()
    others = [OtherModel(name, prompts, config, context) for name in config.compare_with]
    for other in others:
        other.sample()
    completions = {role: sampled[role].rows() for role in models}
    comparisons = comparison_rows(completions["policy"], completions["baseline"])
    verdicts = ShardedTable(context.output, VERDICTS)
    rates = _judge(comparisons, completions, verdicts, others, config, context)
    wrote = [*sampled.values(), *(other.completions for other in others)]
    rejects = [reject for one in wrote for reject in one.rejects]
    unscored = sum(row["verdict"] is None for row in verdicts.rows())
    # Nothing below takes time: until here a killed run has kept all its shards.
    measured = benchmarks.merge(models)
    for other in others:
        other.merge()
    write_json(context.output / "win_rates.json", rates)
    write_table(context.output / COMPARISONS.file_name, COMPARISONS, comparisons)
    write_table(context.output / REJECTS.file_name, REJECTS, rejects)
    return {
        "prompts": len(prompts),
        "completions_policy": sampled["policy"].merge(),
        "completions_baseline": sampled["baseline"].merge(),
        "rejects": len(rejects),
        "comparisons": len(comparisons),
        "verdicts": verdicts.merge(("judge", "comparison_id", "order")),
        "unscored": unscored,
        "benchmarks": len(measured["tasks"]),
        "benchmarks_failed": sum(entry["error"] is not None for entry in measured["tasks"]),
    }


def _write(
    contender: Contender,
    completions: Completions,
    benchmarks: Benchmarks,
    config: EvaluateConfig,
    context: StageContext,
) -> None:
    """Let one model write what is still missing of its completions and benchmarks."""
    if not completions.missing and not benchmarks.missing(contender.role):
        return
    sampler = open_sampler(config.sampler, contender.source, context.runtime)
    try:
        completions.sample(sampler)
        if contender.role == "baseline":
            benchmarks.keep_baseline(completions.rows())
        benchmarks.run(contender, sampler)
    finally:
        sampler.close()


def _judge(
    comparisons: Sequence[Row],
    completions: Mapping[Role, Sequence[Row]],
    verdicts: ShardedTable,
    others: Sequence[OtherModel],
    config: EvaluateConfig,
    context: StageContext,
) -> dict[str, Any]:
    """Let every judge give its verdicts; returns the win rate by each: `judge` and `truth`."""
    if not comparisons:
        raise DataError(
            "evaluate: no prompt was answered by both models; lower evaluate.max_tokens, or "
            "choose models with a longer context"
        )
    rates: dict[str, Any] = {}
    for name in ("judge", "truth"):
        judge = _open(name, config, context)
        if judge is None:
            continue
        _refuse_namesake(judge, rates)
        judge_rows(judge, comparisons, verdicts, context.progress, f"verdicts by {judge.name}")
        judged = judged_comparisons(
            [row for row in verdicts.rows() if row["judge"] == judge.name],
            comparisons,
            completions,
            judge_model=judge_model_name(context) if name == "judge" else "",
            policy_model=policy_model_name(config, context),
        )
        scores = {"policy": prompt_scores(judged.verdicts)}
        scores |= {other.name: other.scores(judge, completions["baseline"]) for other in others}
        rates[name] = win_rate_json(judge, judged, config.headline)
        rates[name]["differences"] = differences(scores)
    _warn(rates, context)
    return rates


def _warn(rates: Mapping[str, Any], context: StageContext) -> None:
    """Say once what the detectors found, by whichever judge."""
    found = [finding for rate in rates.values() for finding in rate["detectors"]]
    for message in dict.fromkeys(f"{f['name']}: {f['detail']}" for f in found):
        context.progress.warn(message)


def _open(name: str, config: EvaluateConfig, context: StageContext) -> Judge | None:
    if name == "truth":
        return config.truth.open(None, context.runtime) if config.truth else None
    return open_judge(context.inputs["judge"], context.runtime) if context.has("judge") else None


def _refuse_namesake(judge: Judge, rates: Mapping[str, Any]) -> None:
    """Verdicts are told apart by the judge's name: one name must not stand for two judges."""
    for rate in rates.values():
        if rate["judge"] == judge.name and rate["judge_fingerprint"] != judge.fingerprint:
            raise ConfigError(
                f"evaluate.truth: the judge of [judge] is a {judge.name} too, with other "
                "settings; give truth another kind"
            )
