"""A standard set's scores by each judge, and how the judging differs from the published one."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evals.files.standards.run_scores import PlayedMatch, levels_and_rounds, run_scores
from evals.files.standards.sets import Standard, StandardSet, standard_set
from evals.judges import JUDGE_FILE, JudgeKind
from evals.judges.kinds.llm import LlmJudge
from evals.models.contenders import OutputsFile, contender_name
from schemas.hashes import known_sha256
from schemas.results.win_rates import StandardScores
from schemas.stage import StageContext
from stages.evaluate.compare import Match
from stages.evaluate.config import BASELINE, EvaluateConfig
from stages.evaluate.contestants import Contestant

Row = dict[str, Any]


def standard_scores(
    matches: Sequence[Match],
    verdicts: Mapping[str, Sequence[Row]],
    turns: Mapping[str, int],
    baseline: Contestant,
    judge: tuple[str, JudgeKind | None],
    config: EvaluateConfig,
) -> StandardScores | None:
    """The scores by one judge; None where the prompts are of no standard set.

    Args:
        matches: of every model against the baseline.
        verdicts: on them, by model.
        turns: prompt_id -> turn from 0.
        baseline: whom they are compared with.
        judge: its name, and its settings where they are known.
        config: of the stage; names the set.
    """
    found = standard_set(config.prompts) if config.prompts else None
    if found is None:
        return None
    name, settings = judge
    played = [PlayedMatch(m.name, m.comparisons, verdicts[m.name]) for m in matches]
    graded = isinstance(settings, LlmJudge) and settings.answer == "scale"
    levels, rounds = levels_and_rounds(found.standard)
    known_as = config.names.get(BASELINE) or contender_name(baseline.source)
    judged = _judged(name, settings)
    scores = run_scores(found.standard, played, turns, graded=graded)
    apart = [*_apart(found, known_as, judged), *_answered_apart(found.standard, config)]
    if any(one.style_controlled is not None for one in scores):
        apart.append("style counted in words and punctuation marks, published in tokens of GPT-4o")
    return StandardScores(
        name=found.standard.name,
        baseline=known_as,
        scores=scores,
        levels=levels,
        rounds=rounds,
        published={
            **found.standard.judging,
            "baselines": _baselines(found),
            **_answering(found.standard.temperatures, found.standard.max_tokens),
        },
        answered=_answering(config.temperatures, config.max_tokens)
        | {"temperature": config.temperature},
        judged=judged,
        apart=apart,
    )


def judge_kind(role: str, config: EvaluateConfig, context: StageContext) -> JudgeKind | None:
    """The settings of the judge in a role, as far as they tell how a model is asked."""
    if role == "truth":
        return config.truth
    path = context.inputs["judge"] / JUDGE_FILE
    said = json.loads(path.read_text()).get("judge", {}) if path.is_file() else {}
    return LlmJudge.model_validate(said) if said.get("kind") == "llm" else None


def _baselines(found: StandardSet) -> dict[str, str]:
    return {category or "all": model for category, model in found.standard.baselines.items()}


def _judged(name: str, settings: JudgeKind | None) -> dict[str, Any]:
    """How a judge was asked: what one needs to know to ask it again."""
    rates = isinstance(settings, LlmJudge) and settings.pointwise
    said: dict[str, Any] = {"judge": name} | ({} if rates else {"games": 2})
    if not isinstance(settings, LlmJudge):
        return said
    if rates:
        said["tie_within"] = settings.tie_within
    server, files = settings.server, settings.rubric_files()
    said |= {
        "judge_model": server.model if server else settings.model and settings.model.path,
        "rubric": settings.rubric,
        "rubric_sha256": known_sha256(files[0]) if files else None,
        "prompt": settings.layout,
        "answer": settings.answer,
        "references": settings.references,
        "temperature": server.temperature if server else 0.0,
        "max_tokens": (server.max_tokens if server else settings.max_reply_tokens)
        or (16 if settings.answer == "label" else 1024),
    }
    return said


def _apart(found: StandardSet, baseline: str, judged: Mapping[str, Any]) -> Iterator[str]:
    """What makes the scores others than those published, in words."""
    standard, published = found.standard, found.standard.judging
    if baseline not in standard.baselines.values() and baseline != _all(found):
        yield f"the baseline is {baseline}, published with {_all(found)}"
    if judged.get("judge_model") != published["judge_model"]:
        model = judged.get("judge_model") or judged["judge"]
        yield f"judged by {model}, published with {published['judge_model']}"
    nearest = standard.form["answer"]
    if "answer" in judged and judged["answer"] != nearest:
        yield f"verdicts of form {judged['answer']}; nearest to the published: {nearest}"
    if "rubric" in judged:
        own = "a file of yours" if judged["rubric_sha256"] else f"our {judged['rubric']}"
        yield f"the rubric is {own}, in our layout, and not the published prompt"
    if "tie_within" in judged and judged["tie_within"] != published.get("tie_within"):
        yield f"ratings tie within {judged['tie_within']:g}, published {published['tie_within']:g}"
    for key, words in (("temperature", "temperature"), ("max_tokens", "longest reply")):
        if key in judged and judged[key] != published[key]:
            yield f"{words} {judged[key]}, published with {published[key]}"
    if published.get("games", 2) != judged.get("games", 2):
        yield f"each pair judged in both orders, published with one, {published['order']}"
    if "references" in judged and not judged["references"] and "reference_answers" in published:
        named = ", ".join(published["reference_answers"])
        yield f"the judge is shown no reference answers, published with those of {named}"


def _answering(temperatures: Mapping[str, float], max_tokens: int | None) -> dict[str, Any]:
    """How models answer, as far as it is said; beside what is said of judges."""
    said = {"answer_temperatures": dict(temperatures), "answer_max_tokens": max_tokens}
    return {name: value for name, value in said.items() if value}


def _answered_apart(standard: Standard, config: EvaluateConfig) -> Iterator[str]:
    """What makes the answers that models wrote here others than those published."""
    if all(isinstance(source, OutputsFile) for source in config.sources):
        return
    other: dict[float, list[str]] = defaultdict(list)
    for category, published in standard.temperatures.items():
        here = config.at_its_temperature(category).temperature
        if here != published:
            other[here].append(f"{category} {published:g}")
    for here, categories in other.items():
        yield f"answers at temperature {here:g}, published with {', '.join(categories)}"
    if standard.temperatures and config.top_p != 1:
        yield f"answers with top_p {config.top_p:g}, published without"
    if standard.max_tokens and config.max_tokens != standard.max_tokens:
        yield f"longest answer {config.max_tokens}, published with {standard.max_tokens}"


def _all(found: StandardSet) -> str:
    return " and ".join(found.standard.baselines.values())
