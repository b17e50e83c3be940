"""What one scorer of a finished inspect-ai task measured: every metric, sample by sample.

Importing this module imports inspect_ai (3 s).
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from inspect_ai.log import EvalSampleReductions, EvalScore
from inspect_ai.scorer import value_to_float
from pydantic import Field

from evals.statistics.estimates import estimate_mean
from evals.statistics.means import mean
from schemas.results.base import Estimate, Result

# Where all scores are 0 their spread equals their mean, and is none.
_SPREADS = frozenset({"stderr", "bootstrap_stderr", "std", "var"})

About = Mapping[str, Mapping[str, Any]]
"""Metadata by sample id."""


class Measured(Result):
    """One metric of one scorer.

    `scores` are the sample's scores by sample id (means over epochs) where the metric is their
    mean, else empty: only then is there an interval, and a difference to pair. `clusters` says by
    sample id what samples belong together; empty where each is for itself.
    """

    scorer: str
    metric: str
    value: float | None
    n: int
    n_unscored: int
    scores: dict[str, float] = Field(default_factory=dict)
    clusters: dict[str, str] = Field(default_factory=dict)

    def estimate(self) -> Estimate:
        """Value, error and interval; None where there is no such number."""
        if self.scores:
            return estimate_mean(self.scores, self.clusters)
        return Estimate(value=self.value, n=self.n)


def measures_of(
    score: EvalScore, reductions: Mapping[str, EvalSampleReductions], about: About
) -> Iterator[Measured]:
    """Every metric of a scorer, and each mean again for every group that the samples name."""
    scores = _sample_scores(score, reductions.get(score.scorer))
    clusters = _clusters(score, about)
    for name, metric in score.metrics.items():
        value = float(metric.value)
        is_mean = name not in _SPREADS and _is_mean(value, scores)
        n_unscored = score.unscored_samples or 0
        yield Measured(
            scorer=score.name,
            metric=name,
            # A rate of nothing is no rate: inspect says 0 where no sample was scored.
            value=value if math.isfinite(value) and score.scored_samples != 0 else None,
            n=len(scores) if scores else score.scored_samples or 0,
            n_unscored=n_unscored,
            scores=scores if is_mean else {},
            clusters=clusters if is_mean else {},
        )
        if is_mean:
            yield from _by_group(score.name, name, scores, clusters, about)


def _is_mean(value: float, scores: Mapping[str, float]) -> bool:
    if not scores:
        return False
    return math.isclose(value, mean([*scores.values()]), rel_tol=1e-9, abs_tol=1e-12)


def _clusters(score: EvalScore, about: About) -> dict[str, str]:
    """sample id -> cluster, by the metadata field that the scorer clusters its error by."""
    params = [metric.params or {} for metric in score.metrics.values()]
    name = next((str(p["cluster"]) for p in params if p.get("cluster")), None)
    if name is None:
        return {}
    return {key: str(metadata[name]) for key, metadata in about.items() if name in metadata}


def _by_group(
    scorer: str,
    metric: str,
    scores: dict[str, float],
    clusters: dict[str, str],
    about: About,
) -> Iterator[Measured]:
    """The mean of each group, where the samples' metadata name several of a sort.

    `group` is one name, `groups` are further ones, whose first word is their sort.
    """
    sorts: dict[str, dict[str, dict[str, float]]] = {}
    for key, score in scores.items():
        metadata = about.get(key, {})
        if (name := metadata.get("group")) is not None:
            sorts.setdefault("", {}).setdefault(str(name), {})[key] = score
        for name in metadata.get("groups") or ():
            sort = str(name).partition(" ")[0]
            sorts.setdefault(sort, {}).setdefault(str(name), {})[key] = score
    groups = {
        name: of for sort in sorts.values() if len(sort) > 1 for name, of in sorted(sort.items())
    }
    for name, of in groups.items():
        found = estimate_mean(of, clusters)
        yield Measured(
            scorer=scorer,
            metric=f"{metric}[{name}]",
            value=found.value,
            n=len(of),
            n_unscored=0,
            scores=of,
            clusters=clusters,
        )


def _sample_scores(score: EvalScore, reduced: EvalSampleReductions | None) -> dict[str, float]:
    """Scores by sample id, means over epochs; unscored samples and texts are left out."""
    to_float = value_to_float()
    found: dict[str, float] = {}
    for sample in reduced.samples if reduced else []:
        value: Any = sample.value
        if isinstance(value, Mapping):
            value = value.get(score.name)
        if value is None or isinstance(value, list):
            continue
        number = to_float(value)
        if math.isfinite(number):
            found[str(sample.sample_id)] = number
    return found
