"""The answer: does the policy beat the baseline, and how far can that be believed?"""

from collections.abc import Mapping

from evals.win_rate.categories import MIN_CATEGORY
from schemas.results.base import Estimate
from schemas.results.benchmarks import BenchmarkResults, PairedResult, TaskResult
from schemas.results.judge_card import JudgeCard
from schemas.results.measures import MEASURES
from schemas.results.report import (
    Headlined,
    JudgeErrors,
    ReportConclusion,
    ShownCard,
    ShownCategory,
    ShownWinRate,
    SoftRate,
)
from schemas.results.win_rates import Conclusion, JudgeWinRate, WinRates
from stages.report.gather.outcome.judge_errors import judge_errors
from stages.report.gather.outcome.people import People
from stages.report.gather.sources import Json, Sources
from stages.report.page.text import percent, points, words


def win_rates(sources: Sources, people: People) -> dict[str, ShownWinRate]:
    """Every win rate that evaluate wrote, by judge: the statistics' own keys, and what is shown.

    `value`, `ci_low`, `ci_high` are of the declared measure, which `measure` names; `soft` is the
    plain win rate. A value that could not be taken is None: nothing is known, which is not 0.5.
    `human` is what labels that were given since then, or before, make of it.
    """
    found = sources.result("evaluate", "win_rates.json", WinRates)
    known = {
        name: rate.model_copy(update={"human": people.of(rate)})
        for name, rate in (found.root if found else {}).items()
    }
    card = sources.result("judge", "card.json", JudgeCard) if "judge" in known else None
    return {
        name: _shown(rate, judge_errors(rate, card) if name == "judge" else None)
        for name, rate in known.items()
    }


def _shown(rate: JudgeWinRate, errors: JudgeErrors | None) -> ShownWinRate:
    soft = SoftRate(win_rate=rate.win_rate, ci_low=rate.ci_low, ci_high=rate.ci_high, n=rate.n)
    declared = rate.headline
    measure = declared.measure if declared else "win_rate"
    return ShownWinRate(
        **dict(rate)
        | {
            "ci_low": declared.ci_low if declared else rate.ci_low,
            "ci_high": declared.ci_high if declared else rate.ci_high,
            "verdict": _CONCLUSIONS[rate.verdict] if _measured(rate) else "not_measured",
            "categories": _categories(rate),
        },
        value=declared.value if declared else rate.win_rate,
        soft=soft,
        measure=MEASURES[measure],
        declared=measure,
        judge_errors=errors,
    )


def _measured(rate: JudgeWinRate) -> bool:
    return rate.win_rate is not None


def _categories(rate: JudgeWinRate) -> dict[str, ShownCategory]:
    """Each category with its number of prompts; the small ones without a rate."""
    return {
        name: ShownCategory(**dict(found))
        if found.n >= MIN_CATEGORY
        else ShownCategory(n=found.n, too_small=True)
        for name, found in rate.categories.items()
    }


_CONCLUSIONS: Mapping[Conclusion, ReportConclusion] = {
    "better": "better",
    "worse": "worse",
    "cannot tell": "cannot_tell",
}


def verdict(rates: Mapping[str, ShownWinRate]) -> Headlined:
    """The headline: by the judge where there is one, else by the true rule.

    `agrees_with_truth` is None where only one of them is known.
    """
    by = next((name for name in ("judge", "truth", *rates) if name in rates), None)
    said: ReportConclusion = rates[by].verdict if by else "not_measured"
    truth: ReportConclusion = rates["truth"].verdict if "truth" in rates else "not_measured"
    known = by not in (None, "truth") and "not_measured" not in (said, truth)
    disputed = known and said != truth
    return Headlined(
        conclusion=said,
        headline=_DISPUTED if disputed else _HEADLINES[said],
        by=by,
        judge=rates[by].judge if by else None,
        truth=truth,
        agrees_with_truth=said == truth if known else None,
    )


_DISPUTED = "The judge and the truth disagree about the policy"
_HEADLINES: Mapping[ReportConclusion, str] = {
    "better": "The policy beats its baseline",
    "worse": "The policy is worse than its baseline",
    "cannot_tell": "Cannot tell whether the policy beats its baseline",
    "not_measured": "No win rate was measured",
}


def world(sources: Sources, name: str | None) -> Json | None:
    """The rates of a world with a known truth, on prompts that training never saw.

    Returns:
        `{name, <scorer>_rate: {baseline, policy, change}}`, each an estimate or absent; `change`
        is paired by prompt. None where the report is of no such world.
    """
    if name is None:
        return None
    found: Json = {"name": name}
    measured = benchmarks(sources)
    for scorer in WORLD_SCORERS[name]:
        about = (f"{name}_preference", scorer, "mean")
        entries = {t.model: _estimate(t, t.value) for t in measured.tasks if _about(t) == about}
        change = next(
            (p for p in measured.paired if _about(p) == about and p.model == "policy"), None
        )
        rates = {model: entries.get(model) for model in ("baseline", "policy")}
        rates["change"] = _estimate(change, change.difference) if change else None
        found[f"{scorer}_rate"] = {key: rate.to_json() for key, rate in rates.items() if rate}
    return found


WORLD_SCORERS = {"food": ("preferred", "well_formed")}


def _estimate(found: TaskResult | PairedResult, value: float | None) -> Estimate | None:
    if value is None:
        return None
    return (
        Estimate(**dict(found), value=value)
        if isinstance(found, PairedResult)
        else Estimate(**dict(found))
    )


def _about(entry: TaskResult | PairedResult) -> tuple[str, str | None, str | None]:
    # inspect's accuracy is the mean of scores that are 0 or 1.
    return entry.task, entry.scorer, "mean" if entry.metric == "accuracy" else entry.metric


def benchmarks(sources: Sources) -> BenchmarkResults:
    """All benchmark results as evaluate wrote them: `tasks`, and `paired` differences."""
    found = sources.result("evaluate", "benchmarks.json", BenchmarkResults) or BenchmarkResults()
    # Our own error stands beside every mean; inspect's own stays in benchmarks.json.
    return BenchmarkResults(
        tasks=[t for t in found.tasks if t.metric != "stderr"], paired=found.paired
    )


def judge_card(sources: Sources) -> ShownCard | None:
    """The judge card as the judge stage wrote it, and what it means in words."""
    card = sources.result("judge", "card.json", JudgeCard)
    return ShownCard(**dict(card), trust=trust(card)) if card else None


def trust(card: JudgeCard) -> str:
    """The judge's trustworthiness in a phrase."""
    if card.accuracy.value is None:
        return "the judge was not measured, so how far to believe it is unknown"
    agrees = f"it gives {percent(card.accuracy.value)} of held-out comparisons their true label"
    lift, over = best_trivial_lift(card)
    if lift is None or lift.value is None:
        return agrees
    if lift.value <= 0 or lift.ci_low is None or lift.ci_low <= 0:
        return f"{agrees}, not clearly more often than {over} would: do not trust it"
    return f"{agrees}, {points(lift.value).lstrip('+')} points more often than {over} would"


def best_trivial_lift(card: JudgeCard) -> tuple[Estimate | None, str]:
    """The smallest lift over a trivial judge, that is over the best one, and its name."""
    lifts = {"longest": card.lift_over_longest, "first": card.lift_over_first}
    known = {name: lift for name, lift in lifts.items() if lift.value is not None}
    if not known:
        return None, ""
    name = min(known, key=lambda key: known[key].value or 0.0)
    return known[name], _TRIVIAL.get(name, words(name))


_TRIVIAL = {"longest": "“the longer one wins”", "first": "“the first one wins”"}
