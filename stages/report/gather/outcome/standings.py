"""Where the models stand, what it cost, and what the evaluation before this one said."""

import json
from collections.abc import Mapping
from typing import Any

from schemas.results.report import PreviousRate, ShownWinRate, Spent, Standing
from schemas.results.win_rates import Ratings
from schemas.stage import StageContext
from stages.report.gather.sources import Sources

BASELINE = "baseline"


def leaderboard(
    rates: Mapping[str, ShownWinRate], by: str | None, names: Mapping[str, str]
) -> list[Standing]:
    """Every model's win rate over the baseline, best first; empty where there is but one model.

    `names` are what people call them.
    """
    pairs = [] if by is None else rates[by].differences
    against = [pair for pair in pairs if pair.second == BASELINE]
    if len(against) < 2:
        return []
    elos = _elos(rates[by].ratings if by else None)
    found = [
        Standing(
            name=pair.first,
            shown=names.get(pair.first, ""),
            **elos.get(pair.first, {}),
            win_rate=0.5 + (pair.difference.value or 0.0),
            ci_low=_above_half(pair.difference.ci_low),
            ci_high=_above_half(pair.difference.ci_high),
            n=pair.difference.n,
            p_holm=pair.p_holm,
            verdict=pair.verdict,
        )
        for pair in against
    ]
    n = max(one.n for one in found)
    baseline = Standing(
        name=BASELINE, shown=names.get(BASELINE, ""), win_rate=0.5, n=n, **elos.get(BASELINE, {})
    )
    return sorted([*found, baseline], key=lambda one: (-one.win_rate, one.name))


def _elos(ratings: Ratings | None) -> dict[str, dict[str, float | None]]:
    return {
        one.name: {"elo": one.elo, "elo_low": one.ci_low, "elo_high": one.ci_high}
        for one in (ratings.models if ratings else ())
    }


def _above_half(end: float | None) -> float | None:
    return None if end is None else min(1.0, max(0.0, 0.5 + end))


def spent(sources: Sources) -> list[Spent]:
    """What judges that are paid for took, by stage."""
    return [
        Spent(
            stage=name,
            prompt_tokens=manifest.counts.get("judge_prompt_tokens", 0),
            completion_tokens=manifest.counts.get("judge_completion_tokens", 0),
            cost=manifest.counts["judge_cost_millionths"] / 1e6,
        )
        for name, manifest in sources.manifests.items()
        if "judge_cost_millionths" in manifest.counts
    ]


def previous(
    context: StageContext, sources: Sources, now: ShownWinRate | None
) -> PreviousRate | None:
    """The declared measure of the evaluation that this run's last report was of.

    None where there was none, or it had another judge or measure. A report that is made again of
    the same evaluation keeps what the one before it said.
    """
    path = context.beside("report/summary.json")
    old = _read(path.read_bytes()) if path else {}
    evaluated = sources.manifests.get("evaluate")
    if now is None or now.value is None or evaluated is None or not old:
        return None
    try:
        if old["stages"]["evaluate"]["fingerprint"] == evaluated.fingerprint:
            kept = old.get("previous")
            return PreviousRate(**kept) if kept else None
        before = old["win_rate"][old["verdict"]["by"]]
        if (before["judge"], before["measure"]) != (now.judge, now.measure):
            return None
        return PreviousRate(
            value=before["value"],
            ci_low=before["ci_low"],
            ci_high=before["ci_high"],
            n=before["n"],
            change=now.value - before["value"],
        )
    except (KeyError, TypeError, ValueError):  # written by another version
        return None


def _read(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
