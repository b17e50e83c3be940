"""The win rates anchored in people's labels, or in some of the truth's verdicts in their place."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evals.audit.labels import HumanLabel, LabelValue, read_labels
from evals.win_rate.human import beside_truth, human_win_rate
from evals.win_rate.win_rate import discrete_scores
from schemas.ids import seed_from
from schemas.results.win_rates import JudgeWinRate
from stages.evaluate.config import EvaluateConfig

Rows = Sequence[Mapping[str, Any]]


def with_people(
    rates: Mapping[str, JudgeWinRate], verdicts: Mapping[str, Rows], config: EvaluateConfig
) -> dict[str, JudgeWinRate]:
    """The same rates with what the labels make of them; no labels, nothing is added.

    Args:
        rates: by role.
        verdicts: of the policy's comparisons, by role.
        config: names the labels.
    """
    if config.labels:
        path = Path(config.labels)
        labels = read_labels(path)
        return {
            role: rate.model_copy(update={"human": human_win_rate(verdicts[role], labels, path)})
            for role, rate in rates.items()
        }
    if config.truth_labels and "judge" in rates:
        drawn = _drawn(verdicts["truth"], config.truth_labels, config.seed)
        found = human_win_rate(verdicts["judge"], drawn, Path("evaluate.truth_labels"))
        found = beside_truth(found, rates["truth"])
        return {**rates, "judge": rates["judge"].model_copy(update={"human": found})}
    return dict(rates)


def _drawn(verdicts: Rows, n: int, seed: int) -> list[HumanLabel]:
    """The truth's verdicts on n prompts as the labels of a person who is always right."""
    of_prompt: dict[str, list[str]] = {}
    for row in verdicts:
        of_prompt.setdefault(row["prompt_id"], []).append(row["comparison_id"])
    prompts = sorted(of_prompt)
    generator = np.random.default_rng(seed_from(seed, "evaluate", "truth_labels"))
    chosen = generator.permutation(len(prompts))[:n]
    drawn = {key for index in chosen for key in of_prompt[prompts[index]]}
    by_comparison = [{**row, "prompt_id": row["comparison_id"]} for row in verdicts]
    scores = discrete_scores(row for row in by_comparison if row["comparison_id"] in drawn)
    said: Mapping[float, LabelValue] = {1.0: "A", 0.5: "tie", 0.0: "B"}
    return [HumanLabel(key, "the truth", said[score]) for key, score in scores.items()]
