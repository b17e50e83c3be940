"""Every number on the page, gathered once. The page is made of the summary and of nothing else."""

import math
from collections.abc import Mapping
from typing import Any

from schemas.results.report import Compared, Headlined, ReportSummary, Trained
from schemas.stage import StageContext
from schemas.tables import COMPARISONS, COMPLETIONS, VERDICTS
from stages.report.config import ReportConfig
from stages.report.gather import (
    data,
    distributions,
    examples,
    generations,
    stages,
    training,
)
from stages.report.gather.outcome import results, rounds, standings, verdict_list
from stages.report.gather.outcome.people import People
from stages.report.gather.sources import Json, Sources

SUMMARY_VERSION = 1
TRAINING_STAGES = ("sft", "judge", "train")


def summarize(config: ReportConfig, context: StageContext) -> ReportSummary:
    """Gather the run's numbers, settings, examples and provenance.

    Raises:
        DataError, MissingInputError: an upstream file is broken or not there.
    """
    sources = Sources(context)
    verdicts = sources.rows("evaluate", VERDICTS)
    people = People(config, context, verdicts)
    rates = results.win_rates(sources, people)
    compared = sources.rows("evaluate", COMPARISONS)
    verdict = results.verdict(rates)
    known_as = _compared(sources, verdict)
    return ReportSummary(
        schema_version=SUMMARY_VERSION,
        title=config.title,
        verdict=verdict,
        compared=known_as,
        leaderboard=standings.leaderboard(rates, verdict.by, _names(sources, known_as)),
        spent=standings.spent(sources),
        previous=standings.previous(
            context, sources, rates.get(verdict.by) if verdict.by else None
        ),
        win_rate=rates,
        rounds=rounds.rounds(context.inputs),
        world=results.world(sources, config.world),
        benchmarks=results.benchmarks(sources),
        judge=results.judge_card(sources),
        trained=_trained(sources),
        training=training.training(sources, "train"),
        noise=finite(training.noise(context, sources)),
        guard=training.guard(sources),
        checkpoints=training.checkpoints(sources),
        sampled=training.sampled_tokens(sources),
        distance=training.pair_distance(sources),
        generations=generations.generations(sources),
        other_training={
            name: found
            for name in TRAINING_STAGES[:-1]
            if (found := training.training(sources, name))
        },
        data=finite(data.ingested(sources)),
        preference_data=finite(distributions.preference_data(sources)),
        outputs=distributions.outputs(_completions(sources)),
        scores=examples.score_distribution(verdicts),
        examples=finite(
            examples.draw_examples(compared, verdicts, verdict.judge, config.examples, config.seed)
        ),
        verdicts=finite(
            verdict_list.verdict_list(
                compared, verdicts, verdict.judge, config.verdicts, config.seed, people.said()
            )
        ),
        stages=stages.stages(sources),
        warnings=[*stages.warnings(sources), *people.warnings],
        settings=finite(stages.settings(sources)),
        provenance=finite(stages.provenance(sources)),
    )


def _completions(sources: Sources) -> dict[str, list[Json]]:
    models = ("baseline", "policy")
    return {m: sources.rows("evaluate", COMPLETIONS, f"completions_{m}") for m in models}


def _trained(sources: Sources) -> Trained:
    """What was trained on what: the settings that name it."""
    loss = _config(sources, "train").get("loss") or {}
    counts = sources.manifests["train"].counts if "train" in sources.manifests else {}
    datasets = _config(sources, "ingest").get("datasets") or []
    return Trained(
        datasets=[str(d.get("kind", "data")) for d in datasets],
        # After those too long for the model were rejected.
        pairs=counts.get("train"),
        loss=loss.get("kind"),
        beta=loss.get("beta"),
        # Where the policy is its own reference and nothing is added to the loss.
        starts_at_ln2=loss.get("kind") == "sigmoid" and not loss.get("rpo_alpha"),
        lora=bool((_config(sources, "train").get("training") or {}).get("lora")),
        on_policy={"sample", "label"} <= sources.manifests.keys(),
        start=_start(sources),
        baseline=_path(_config(sources, "evaluate").get("baseline")) or "start",
    )


def _compared(sources: Sources, verdict: Headlined) -> Compared | None:
    """Policy, baseline and judge by name; None where nothing was compared."""
    if verdict.by is None:
        return None
    settings, train = _config(sources, "evaluate"), _config(sources, "train")
    start, trained = _short(_start(sources)), train.get("loss") or {}
    names = settings.get("names") or {}
    loss = str(trained.get("kind", ""))
    method = _METHODS.get(loss, loss.upper())
    own = f"{start} {method}" if train else start
    return Compared(
        policy=names.get("policy") or _short(_path(settings.get("policy")) or own),
        baseline=names.get("baseline") or _short(_path(settings.get("baseline")) or start),
        judge="the true rule" if verdict.by == "truth" else _short(verdict.judge or verdict.by),
    )


def _names(sources: Sources, compared: Compared | None) -> Mapping[str, str]:
    """What people call the models of the evaluation, by their names there."""
    said = _config(sources, "evaluate").get("names") or {}
    both = {"policy": compared.policy, "baseline": compared.baseline} if compared else {}
    return {**both, **said}


# A loss's name where it is not the name of the method.
_METHODS = {"sigmoid": "DPO", "hinge": "SLiC", "length_normalised": "length-normalised DPO"}


def _short(model: str) -> str:
    """The name of a model without the folders or the owner before it."""
    if model == "sft":
        return "SFT start"
    parts = [part for part in model.split("/") if part]
    return parts[-1] if parts else model


def _config(sources: Sources, stage: str) -> Json:
    manifest = sources.manifests.get(stage)
    found = manifest.payload.get("config") if manifest else None
    return found if isinstance(found, dict) else {}


def _start(sources: Sources) -> str:
    """Where the policy began: the model the recipe names, or the one that sft made."""
    return _path(_config(sources, "train").get("model")) or "sft"


def _path(model: Any) -> str | None:
    return str(model["path"]) if isinstance(model, Mapping) and "path" in model else None


def finite(value: Any) -> Any:
    """The same value with NaN and infinities as None, as JSON has no word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value
