"""The answer: does the policy beat the baseline, and how far can that be believed?"""

from collections.abc import Mapping
from typing import Any

from stages.report.gather.sources import Json, Sources
from stages.report.page.text import is_number, percent, points, words

CHANCE = 0.5
Conclusion = str
"""better, worse, cannot_tell, or not_measured."""


def estimate(found: Mapping[str, Any] | None, key: str = "value") -> Json | None:
    """`{value, ci_low, ci_high, n}` of a measured rate, or None where it was not measured."""
    if not found or not is_number(found.get(key)):
        return None
    return {
        "value": found[key],
        "ci_low": found.get("ci_low"),
        "ci_high": found.get("ci_high"),
        "n": found.get("n"),
    }


def win_rates(sources: Sources) -> Json:
    """Every win rate that evaluate wrote, by judge: the statistics' own keys, and what is shown.

    `value`, `ci_low`, `ci_high` are of the declared measure, which `measure` names; `soft` is the
    plain win rate. A value that could not be taken is None: nothing is known, which is not 0.5.
    """
    return {
        name: _shown(rate)
        for name, rate in sources.json("evaluate", "win_rates.json").items()
        if isinstance(rate, dict) and "win_rate" in rate
    }


def _shown(rate: Json) -> Json:
    soft = {key: rate.get(key) for key in ("win_rate", "ci_low", "ci_high", "n")}
    declared = rate.get("headline") or {"measure": "win_rate", **soft, "value": rate["win_rate"]}
    decides = {key: declared[key] for key in ("value", "ci_low", "ci_high")}
    shown = {**rate, **decides, "soft": soft, "measure": _MEASURES[declared["measure"]]}
    shown |= {"declared": declared["measure"], "categories": _categories(rate)}
    return {**shown, "verdict": conclusion(shown)}


MIN_CATEGORY = 50
"""A category of fewer prompts has an interval of some 27 points: it is counted, and not rated."""


def _categories(rate: Mapping[str, Any]) -> Json:
    """Each category with its number of prompts; the small ones without a rate."""
    return {
        name: found if found["n"] >= MIN_CATEGORY else {"n": found["n"], "too_small": True}
        for name, found in (rate.get("categories") or {}).items()
    }


_MEASURES = {
    "win_rate": "win rate",
    "length_controlled": "length-controlled win rate",
    "discrete": "discrete win rate",
}


def conclusion(rate: Mapping[str, Any] | None) -> Conclusion:
    """What the declared measure's interval says against one half."""
    if not rate or not is_number(rate.get("win_rate")):
        return "not_measured"
    if not is_number(rate["value"]):
        return "cannot_tell"
    if rate["ci_low"] > CHANCE:
        return "better"
    return "worse" if rate["ci_high"] < CHANCE else "cannot_tell"


def verdict(rates: Mapping[str, Json]) -> Json:
    """The headline: by the judge where there is one, else by the true rule.

    `agrees_with_truth` is None where only one of them is known.
    """
    by = next((name for name in ("judge", "truth", *rates) if name in rates), None)
    judge = rates[by].get("judge") if by else None
    said = conclusion(rates[by]) if by else "not_measured"
    truth = conclusion(rates.get("truth"))
    known = by not in (None, "truth") and "not_measured" not in (said, truth)
    disputed = known and said != truth
    return {
        "conclusion": said,
        "headline": _DISPUTED if disputed else _HEADLINES[said],
        "by": by,
        "judge": judge,
        "truth": truth,
        "agrees_with_truth": said == truth if known else None,
    }


_DISPUTED = "The judge and the truth disagree about the policy"
_HEADLINES = {
    "better": "The policy beats its baseline",
    "worse": "The policy is worse than its baseline",
    "cannot_tell": "Cannot tell whether the policy beats its baseline",
    "not_measured": "No win rate was measured",
}


def world(sources: Sources, name: str | None) -> Json | None:
    """The rates of a world with a known truth, on prompts that training never saw.

    Returns:
        `{name, <scorer>_rate: {baseline, policy, change}}`, each `{value, ci_low, ci_high, n}` or
        absent; `change` is paired by prompt. None where the report is of no such world.
    """
    if name is None:
        return None
    found: Json = {"name": name}
    measured = sources.json("evaluate", "benchmarks.json")
    for scorer in WORLD_SCORERS[name]:
        about = (f"{name}_preference", scorer, "mean")
        entries = {t["model"]: t for t in measured.get("tasks", []) if _about(t) == about}
        rates = {model: estimate(entries.get(model)) for model in ("baseline", "policy")}
        change = next((p for p in measured.get("paired", []) if _about(p) == about), None)
        rates["change"] = estimate(change, "difference")
        found[f"{scorer}_rate"] = {key: rate for key, rate in rates.items() if rate}
    return found


WORLD_SCORERS = {"food": ("preferred", "well_formed")}


def _about(entry: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    metric = entry.get("metric")
    # inspect's accuracy is the mean of scores that are 0 or 1.
    return entry.get("task"), entry.get("scorer"), "mean" if metric == "accuracy" else metric


def benchmarks(sources: Sources) -> Json:
    """All benchmark results as evaluate wrote them: `tasks`, and `paired` differences."""
    found = sources.json("evaluate", "benchmarks.json")
    shown = {key: list(found.get(key) or []) for key in ("tasks", "paired")}
    # Our own error stands beside every mean; inspect's own stays in benchmarks.json.
    return shown | {"tasks": [t for t in shown["tasks"] if t.get("metric") != "stderr"]}


def judge_card(sources: Sources) -> Json | None:
    """The judge card as the judge stage wrote it, and what it means in words."""
    card = sources.json("judge", "card.json")
    if not card:
        return None
    return {**card, "trust": trust(card)}


def trust(card: Mapping[str, Any]) -> str:
    """The judge's trustworthiness in a phrase."""
    accuracy = card.get("accuracy") or {}
    if not is_number(accuracy.get("value")):
        return "the judge was not measured, so how far to believe it is unknown"
    agrees = f"it gives {percent(accuracy['value'])} of held-out comparisons their true label"
    lift, over = best_trivial_lift(card)
    if lift is None:
        return agrees
    if lift["value"] <= 0 or lift["ci_low"] <= 0:
        return f"{agrees}, not clearly more often than {over} would: do not trust it"
    return f"{agrees}, {points(lift['value']).lstrip('+')} points more often than {over} would"


def best_trivial_lift(card: Mapping[str, Any]) -> tuple[Json | None, str]:
    """The smallest lift over a trivial judge, that is over the best one, and its name."""
    known = {
        key.removeprefix("lift_over_"): lift
        for key, lift in card.items()
        if key.startswith("lift_over_") and is_number(lift["value"])
    }
    if not known:
        return None, ""
    name = min(known, key=lambda key: float(known[key]["value"]))
    return known[name], _TRIVIAL.get(name, words(name))


_TRIVIAL = {"longest": "“the longer one wins”", "first": "“the first one wins”"}
