"""The stage from prompts to win rates. One model is in memory at a time."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.audit.labels import read_labels
from evals.files.verdicts import DECLARED, judged_comparisons
from evals.judge_card.floors import refuse_below_floors
from evals.judges import Judge, open_judge
from evals.judges.progress import spending_counts
from evals.models.checkpoints import ModelSource
from evals.models.contenders import OutputsFile, ServedModel
from evals.models.samplers import open_sampler
from evals.win_rate.human import human_win_rate
from evals.win_rate.win_rate import prompt_scores
from schemas.errors import ConfigError, DataError
from schemas.parquet import write_table
from schemas.results.base import write_result
from schemas.results.win_rates import Declared, JudgeWinRate, WinRates
from schemas.stage import StageContext
from schemas.tables import PROMPTS, REJECTS
from stages.evaluate.benchmarks import Benchmarks
from stages.evaluate.compare import Match, cut_in_thought, judge_win_rate, model_pairs
from stages.evaluate.config import BASELINE, POLICY, EvaluateConfig
from stages.evaluate.contestants import (
    Contestant,
    contestants,
    judge_model_name,
    policy_model_name,
)
from stages.evaluate.given import take_outputs
from stages.evaluate.prompts import evaluation_prompts
from stages.evaluate.sampling import Completions
from stages.evaluate.settling import judge_until_settled

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
    asked = evaluation_prompts(config, context)
    prompts = asked.rows
    if not asked.from_ingest:  # the way back from a verdict leads over this table
        write_table(context.output / PROMPTS.file_name, PROMPTS, prompts)
    models = contestants(config, context)
    benchmarks = Benchmarks(config, context)
    sampled = {model.name: Completions(model.name, prompts, config, context) for model in models}
    # The baseline comes first: some tasks compare with what it wrote.
    for model in models:
        if isinstance(model.source, OutputsFile):
            own = sampled[model.name]
            take_outputs(own, model.source, model.fingerprint, asked, context.progress)
            if model.name == BASELINE:
                benchmarks.keep_baseline(own.rows())
            if config.tasks:
                context.progress.note(f"{model.name}: a file of outputs cannot run benchmarks")
            continue
        _write(model, sampled[model.name], model.source, benchmarks, config, context)
    for model in models:
        benchmarks.score(model)
    benchmarks.judge()
    completions = {name: one.rows() for name, one in sampled.items()}
    matches = [Match(model.name, context) for model in models if model.name != BASELINE]
    for match in matches:
        match.pair(completions[match.name], completions[BASELINE])
    spent: Counter[str] = Counter()
    rates = _judge(matches, models, completions, spent, config, context)
    rejects = [reject for one in sampled.values() for reject in one.rejects]
    # Nothing below takes time: until here a killed run has kept all its shards.
    measured = benchmarks.merge(models)
    merged = [match.merge() for match in matches]
    verdicts, unscored = merged[0]
    for one in sampled.values():
        one.merge()
    write_result(context.output / "win_rates.json", rates)
    write_table(context.output / REJECTS.file_name, REJECTS, rejects)
    return {
        "prompts": len(prompts),
        "completions_policy": len(completions[POLICY]),
        "completions_baseline": len(completions[BASELINE]),
        "completions_cut_in_thought": sum(
            len(cut_in_thought(completions[name])) for name in (POLICY, BASELINE)
        ),
        "rejects": len(rejects),
        "comparisons": len(matches[0].comparisons),
        "verdicts": verdicts,
        "unscored": unscored,
        **spent,
        "benchmarks": len(measured.tasks),
        "benchmarks_failed": sum(entry.error is not None for entry in measured.tasks),
    }


def _write(
    model: Contestant,
    completions: Completions,
    source: ModelSource | ServedModel,
    benchmarks: Benchmarks,
    config: EvaluateConfig,
    context: StageContext,
) -> None:
    """Let one model write what is still missing of its completions and benchmarks."""
    if not completions.missing and not benchmarks.missing(model.name):
        return
    sampler = open_sampler(config.sampler, source, context.runtime)
    try:
        completions.sample(sampler)
        if model.name == BASELINE:
            benchmarks.keep_baseline(completions.rows())
        benchmarks.run(model, sampler)
    finally:
        sampler.close()


def _judge(
    matches: Sequence[Match],
    models: Sequence[Contestant],
    completions: Mapping[str, Sequence[Row]],
    spent: Counter[str],
    config: EvaluateConfig,
    context: StageContext,
) -> WinRates:
    """Let every judge give its verdicts; returns the win rate by each: `judge` and `truth`.

    Args:
        matches: of every model against the baseline, the policy's first.
        models: of the evaluation.
        completions: by model.
        spent: what the judges cost is added to it.
        config: of the stage.
        context: of the stage.
    """
    policy = matches[0]
    if not policy.comparisons:
        raise DataError(
            "evaluate: no prompt was answered by both models; lower evaluate.max_tokens, choose "
            "models with a longer context, or files of outputs that answer these prompts"
        )
    labels = read_labels(Path(config.labels)) if config.labels else []
    judges = _judges(config, context)
    prompts = len({row["prompt_id"] for row in policy.comparisons})
    _declare(judges, models, prompts, config, context)
    if config.stop_when_settled and judges:
        first = next(iter(judges.values()))
        judge_until_settled(policy, first, config.headline, context.progress)
    rates: dict[str, JudgeWinRate] = {}
    for role, judge in judges.items():
        verdicts = {match.name: match.judge(judge) for match in matches}
        for rows in verdicts.values():
            spent.update(spending_counts(judge, rows))
        judged = judged_comparisons(
            verdicts[POLICY],
            policy.comparisons,
            {name: completions[name] for name in (POLICY, BASELINE)},
            judge_model=judge_model_name(context) if role == "judge" else "",
            policy_model=policy_model_name(config, context),
            until_settled=config.stop_when_settled,
        )
        found = judge_win_rate(judge, judged, config.headline)
        scores = {name: prompt_scores(rows) for name, rows in verdicts.items()}
        pairs = model_pairs(scores, found.headline)
        further: dict[str, Any] = {"differences": pairs, "declared_headline": config.headline}
        if labels:
            further["human"] = human_win_rate(verdicts[POLICY], labels, Path(str(config.labels)))
        rates[role] = found.model_copy(update=further)
    _warn(rates, context)
    return WinRates(rates)


def _judges(config: EvaluateConfig, context: StageContext) -> dict[str, Judge]:
    """The judges by role. Raises ConfigError where one name stands for two."""
    found = {role: _open(role, config, context) for role in ("judge", "truth")}
    judges = {role: judge for role, judge in found.items() if judge is not None}
    if len(judges) > 1:
        _refuse_namesakes(judges["judge"], judges["truth"])
    return judges


def _declare(
    judges: Mapping[str, Judge],
    models: Sequence[Contestant],
    prompts: int,
    config: EvaluateConfig,
    context: StageContext,
) -> None:
    """Write down what will decide, before any verdict is opened."""
    declared = Declared(
        headline=config.headline,
        judges={role: (judge.name, judge.fingerprint) for role, judge in judges.items()},
        models={model.name: model.fingerprint for model in models},
        prompts=prompts,
        until_settled=config.stop_when_settled,
    )
    write_result(context.output / DECLARED, declared)


def _warn(rates: Mapping[str, JudgeWinRate], context: StageContext) -> None:
    """Say once what the detectors found, by whichever judge."""
    found = [finding for rate in rates.values() for finding in rate.detectors]
    for message in dict.fromkeys(f"{f.name}: {f.detail}" for f in found):
        context.progress.warn(message)


def _open(name: str, config: EvaluateConfig, context: StageContext) -> Judge | None:
    if name == "truth":
        return config.truth.open(None, context.runtime) if config.truth else None
    return open_judge(context.inputs["judge"], context.runtime) if context.has("judge") else None


def _refuse_namesakes(judge: Judge, truth: Judge) -> None:
    """Verdicts are told apart by the judge's name: one name must not stand for two judges."""
    if judge.name == truth.name and judge.fingerprint != truth.fingerprint:
        raise ConfigError(
            f"evaluate.truth: the judge of [judge] is a {judge.name} too, with other "
            "settings; give truth another kind"
        )
