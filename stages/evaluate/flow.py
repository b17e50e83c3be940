"""The stage from prompts to win rates. One model is in memory at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

from evals.judges import Judge, open_judge
from evals.models.samplers import open_sampler
from schemas.errors import ConfigError, DataError
from schemas.parquet import ShardedTable, write_table
from schemas.stage import StageContext
from schemas.tables import COMPARISONS, REJECTS, VERDICTS
from stages.evaluate import EvaluateConfig
from stages.evaluate.benchmarks import Benchmarks, write_json
from stages.evaluate.comparing import comparison_rows, judge_rows, win_rate_json
from stages.evaluate.models import Contender, contenders
from stages.evaluate.sampling import Completions, read_test_prompts

Row = dict[str, Any]


def evaluate(config: EvaluateConfig, context: StageContext) -> Mapping[str, int]:
    """Run the stage; see `stages.evaluate.run`.

    Raises:
        ConfigError: no model to evaluate or to beat, or two judges of one name.
        DataError: no test prompts, or none that both models could answer.
    """
    prompts = read_test_prompts(context.input("ingest", "prompts.parquet"), config.max_prompts)
    models = contenders(config, context)
    benchmarks = Benchmarks(config, context)
    sampled = {role: Completions(role, prompts, config, context) for role in models}
    for role, contender in models.items():
        _write(contender, sampled[role], benchmarks, config, context)
    comparisons = comparison_rows(sampled["policy"].rows(), sampled["baseline"].rows())
    verdicts = ShardedTable(context.output, VERDICTS)
    rates = _judge(comparisons, verdicts, config, context)
    rejects = [reject for role in models for reject in sampled[role].rejects]
    unscored = sum(row["verdict"] is None for row in verdicts.rows())
    # Nothing below takes time: until here a killed run has kept all its shards.
    measured = benchmarks.merge(models)
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
        benchmarks.run(contender, sampler)
    finally:
        sampler.close()


def _judge(
    comparisons: Sequence[Row],
    verdicts: ShardedTable,
    config: EvaluateConfig,
    context: StageContext,
) -> dict[str, Any]:
    """Let every judge give its verdicts; returns the win rate by each: `judge` and `truth`."""
    if not comparisons:
        raise DataError(
            "evaluate: no prompt was answered by both models; lower evaluate.max_tokens, or "
            "choose models with a longer context"
        )
    categories = {row["prompt_id"]: row["category"] for row in comparisons}
    rates: dict[str, Any] = {}
    for name in ("judge", "truth"):
        judge = _open(name, config, context)
        if judge is None:
            continue
        _refuse_namesake(judge, rates)
        judge_rows(judge, comparisons, verdicts, context.progress, f"verdicts by {judge.name}")
        rates[name] = win_rate_json(judge, verdicts.rows(), categories)
    return rates


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
