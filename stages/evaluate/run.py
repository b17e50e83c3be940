"""The stage from prompts to win rates. One model is in memory at a time."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from evals.files.verdicts import DECLARED, judged_comparisons
from evals.judge_card.floors import refuse_below_floors
from evals.judges import Judge, open_judge
from evals.judges.progress import spending_counts
from evals.judges.ratings.charging import charged_once, ratings_counts, reference_counts
from evals.models.checkpoints import ModelSource
from evals.models.contenders import OutputsFile, ServedModel
from evals.models.samplers import open_sampler
from evals.win_rate.win_rate import prompt_scores
from schemas.errors import ConfigError, DataError
from schemas.parquet import write_table
from schemas.results.base import write_result
from schemas.results.win_rates import Declared, JudgeWinRate, WinRates
from schemas.stage import RESUME_FOLDER, StageContext
from schemas.tables import COMPLETIONS, PROMPTS, REJECTS
from stages.evaluate.benchmarks import Benchmarks
from stages.evaluate.best_of import best_contestant, best_samples
from stages.evaluate.compare import (
    Match,
    between,
    cut_in_thought,
    judge_win_rate,
    model_pairs,
    rated,
    with_head_to_head,
)
from stages.evaluate.config import BASELINE, POLICY, EvaluateConfig
from stages.evaluate.contestants import (
    Contestant,
    contestants,
    judge_model_name,
    policy_model_name,
)
from stages.evaluate.given import take_outputs
from stages.evaluate.people import with_people
from stages.evaluate.prompts import EvaluationPrompts, evaluation_prompts
from stages.evaluate.sampling import Completions
from stages.evaluate.settling import judge_until_settled
from stages.evaluate.standard.scores import judge_kind, standard_scores
from stages.evaluate.standard.turns import Conversations
from stages.shards.judging import failed_counts, say_missing
from stages.shards.kept import KeptWork

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
    best = best_contestant(config, models)
    batches = context.runtime.batches(("sampler_batch_size", "judge_batch_size"))
    kept = KeptWork(context.output / RESUME_FOLDER, *(f"{k} {n}" for k, n in batches.items()))
    benchmarks = Benchmarks(config, context, models, kept)
    sampled = _sampled(models, best, asked, benchmarks, kept, config, context)
    benchmarks.judge()
    baseline = sampled[BASELINE].rows
    matches = [
        Match(name, one.rows, baseline, kept, context)
        for name, one in sampled.items()
        if name != BASELINE and not (best and name == best.name)
    ]
    rejects = [reject for one in sampled.values() for reject in one.rejects]
    if not matches[0].comparisons:
        raise _nothing_compared(rejects)
    completions = {name: one.rows for name, one in sampled.items()}
    spent: Counter[str] = Counter()
    turns = {one.prompt_id: one.turn for one in asked.given}
    rates = _judge(matches, models, completions, turns, spent, config, context, best, kept)
    measured = benchmarks.write()
    for match in matches:
        match.write(context.output)
    write_result(context.output / "win_rates.json", rates)
    write_table(context.output / REJECTS.file_name, REJECTS, rejects)
    kept.forget_others()
    return {
        "prompts": len(prompts),
        **_counts(completions, matches),
        "rejects": len(rejects),
        **spent,
        "benchmarks": len(measured.tasks),
        "benchmarks_failed": sum(entry.error is not None for entry in measured.tasks),
    }


def _nothing_compared(rejects: Sequence[Row]) -> DataError:
    """That no prompt has two answers, and the commonest reason in its first row's words."""
    reasons = Counter((row["table"], row["reason"]) for row in rejects)
    why = ""
    if reasons:
        (table, reason), count = reasons.most_common(1)[0]
        first = next(r for r in rejects if (r["table"], r["reason"]) == (table, reason))
        name = table.removeprefix(f"{COMPLETIONS.name}_")
        why = f" ({name}: {reason.replace('_', ' ')}, {count} times; first: {first['detail']})"
    return DataError(
        f"evaluate: no prompt was answered by both models{why}; lower max_tokens, choose models "
        "with a longer context, or files of outputs that answer these prompts"
    )


def _sampled(
    models: Sequence[Contestant],
    best: Contestant | None,
    asked: EvaluationPrompts,
    benchmarks: Benchmarks,
    kept: KeptWork,
    config: EvaluateConfig,
    context: StageContext,
) -> dict[str, Completions | Conversations]:
    """All completions by model, and the benchmarks that models answer by themselves."""
    found: dict[str, Completions | Conversations] = {}
    # The baseline comes first: some tasks compare with what it wrote.
    for model in models:
        if isinstance(model.source, OutputsFile):
            given = Completions(model, asked.rows, config, context, kept)
            found[model.name] = given
            take_outputs(given, model.source, model.fingerprint, asked, context.progress)
            given.write()
            if config.tasks:
                context.progress.note(f"{model.name}: a file of outputs cannot run benchmarks")
        else:
            own = Conversations(model, asked, config, context, kept)
            found[model.name] = own
            _write(model, own, model.source, benchmarks, config, context)
    if best is not None:
        many = config.model_copy(update={"n": config.best_of})
        more = Conversations(best, asked, many, context, kept)
        found[best.name] = more
        _sample_more(best, more, config, context)
    for model in models:
        benchmarks.score(model)
    return found


def _counts(completions: Mapping[str, Sequence[Row]], matches: Sequence[Match]) -> dict[str, int]:
    """For the manifest: of policy and baseline."""
    match = matches[0]
    cut = (len(cut_in_thought(completions[name])) for name in (POLICY, BASELINE))
    return {
        "completions_policy": len(completions[POLICY]),
        "completions_baseline": len(completions[BASELINE]),
        "completions_cut_in_thought": sum(cut),
        "comparisons": len(match.comparisons),
        "verdicts": len(match.verdicts),
        "unscored": sum(row["verdict"] is None for row in match.verdicts),
    }


def _write(
    model: Contestant,
    completions: Conversations,
    source: ModelSource | ServedModel,
    benchmarks: Benchmarks,
    config: EvaluateConfig,
    context: StageContext,
) -> None:
    """Let one model write what is still missing of its completions and benchmarks."""
    if context.runtime.engine == "ray":
        completions.sample()
    if not completions.missing:
        completions.write()
        if not benchmarks.missing(model.name):
            return
    sampler = open_sampler(config.sampler, source, context.runtime)
    try:
        if completions.missing:
            completions.sample(sampler)
            completions.write()
        benchmarks.run(model, sampler)
    finally:
        sampler.close()


def _sample_more(
    best: Contestant, completions: Conversations, config: EvaluateConfig, context: StageContext
) -> None:
    """Let the baseline write the samples of which the best is chosen."""
    if completions.missing and context.runtime.engine == "ray":
        completions.sample()
    elif completions.missing and not isinstance(best.source, OutputsFile):
        sampler = open_sampler(config.sampler, best.source, context.runtime)
        try:
            completions.sample(sampler)
        finally:
            sampler.close()
    completions.write()


def _judge(
    matches: list[Match],
    models: Sequence[Contestant],
    completions: Mapping[str, Sequence[Row]],
    turns: Mapping[str, int],
    spent: Counter[str],
    config: EvaluateConfig,
    context: StageContext,
    best: Contestant | None,
    kept: KeptWork,
) -> WinRates:
    """Let every judge give its verdicts; returns the win rate by each: `judge` and `truth`.

    Args:
        matches: of every model against the baseline, the policy's first; the one of the best of
            several samples is added, and those of all other pairs.
        models: of the evaluation.
        completions: by model.
        turns: prompt_id -> turn from 0, for standard sets of several turns.
        spent: what the judges cost is added to it.
        config: of the stage.
        context: of the stage.
        best: stands for the best of several samples.
        kept: holds verdicts while the stage goes on.
    """
    policy = matches[0]
    ways = _ways(config, context)
    judges = _judges(ways)
    prompts = len({row["prompt_id"] for row in policy.comparisons})
    _declare(judges, models, prompts, config, context)
    if config.stop_when_settled and judges:
        role, first = next(iter(judges.items()))
        judge_until_settled(policy, first, ways[role], config.headline, context.progress)
    further: list[Row] = []
    if best is not None and judges:
        role, first = next(iter(judges.items()))
        chosen, further = best_samples(
            best.name, completions[best.name], first, ways[role], kept, context
        )
        matches.append(Match(best.name, chosen, completions[BASELINE], kept, context))
    if config.all_pairs:
        matches += between(matches, kept, context)
    rates: dict[str, JudgeWinRate] = {}
    given: dict[str, list[Row]] = {}
    for role, judge in judges.items():
        verdicts = {(m.name, m.against): m.judge(judge, ways[role]) for m in matches}
        for rows in verdicts.values():
            say_missing(judge.name, failed_counts(rows), context)
        # A rating of the baseline is in every match, and was paid once.
        taken = charged_once([*further, *(row for rows in verdicts.values() for row in rows)])
        further = []  # the first judge chose among the samples
        spent.update(spending_counts(judge, taken))
        spent.update(ratings_counts(taken))
        _say_references(judge, verdicts[POLICY, BASELINE], context)
        judged = judged_comparisons(
            verdicts[POLICY, BASELINE],
            policy.comparisons,
            {name: completions[name] for name in (POLICY, BASELINE)},
            judge_model=judge_model_name(context) if role == "judge" else "",
            policy_model=policy_model_name(config, context),
            until_settled=config.stop_when_settled,
        )
        found = judge_win_rate(judge, judged, config.headline)
        against = {m.name: verdicts[m.name, BASELINE] for m in matches if m.against == BASELINE}
        scores = {name: prompt_scores(rows) for name, rows in against.items()}
        of_set = standard_scores(
            [m for m in matches if m.against == BASELINE],
            against,
            turns,
            models[0],
            (judge.name, judge_kind(role, config, context)),
            config,
        )
        pairs = with_head_to_head(model_pairs(scores, found.headline), verdicts)
        beside = {
            "differences": pairs,
            "ratings": rated(verdicts),
            "standard": of_set,
            "declared_headline": config.headline,
        }
        rates[role] = found.model_copy(update=beside)
        given[role] = verdicts[POLICY, BASELINE]
    _warn(rates, context)
    return WinRates(with_people(rates, given, config))


def _ways(config: EvaluateConfig, context: StageContext) -> dict[str, Callable[[], Judge]]:
    """How to open the judges, by role: `judge` and `truth`, as far as there are any."""
    ways: dict[str, Callable[[], Judge]] = {}
    if context.has("judge"):
        ways["judge"] = partial(open_judge, context.inputs["judge"].resolve(), context.runtime)
    if config.truth:
        ways["truth"] = partial(config.truth.open, None, context.runtime)
    return ways


def _judges(ways: Mapping[str, Callable[[], Judge]]) -> dict[str, Judge]:
    """The judges by role. Raises ConfigError where one name stands for two."""
    judges = {role: opens() for role, opens in ways.items()}
    if len(judges) > 1:
        _refuse_namesakes(judges["judge"], judges["truth"])
    return judges


def _say_references(judge: Judge, rows: Sequence[Row], context: StageContext) -> None:
    """Note how many comparisons were judged without a reference answer."""
    counts = reference_counts(rows)
    if without := counts.get("comparisons_without_reference"):
        context.progress.note(
            f"{judge.name}: {without:,} of {sum(counts.values()):,} comparisons have no reference "
            "answer, and were judged without one"
        )


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
        margins=config.margins,
    )
    write_result(context.output / DECLARED, declared)


def _warn(rates: Mapping[str, JudgeWinRate], context: StageContext) -> None:
    """Say once what the detectors found, by whichever judge."""
    found = [finding for rate in rates.values() for finding in rate.detectors]
    for message in dict.fromkeys(f"{f.name}: {f.detail}" for f in found):
        context.progress.warn(message)


def _refuse_namesakes(judge: Judge, truth: Judge) -> None:
    """Verdicts are told apart by the judge's name: one name must not stand for two judges."""
    if judge.name == truth.name and judge.fingerprint != truth.fingerprint:
        raise ConfigError(
            f"evaluate.truth: the judge of [judge] is a {judge.name} too, with other "
            "settings; give truth another kind"
        )
