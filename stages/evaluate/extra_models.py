"""Further models on the same prompts, each against the same baseline, and how all differ."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from evals.judges import Judge
from evals.models.checkpoints import model_fingerprint
from evals.models.samplers import open_sampler
from evals.win_rate.differences import holm, policy_difference
from evals.win_rate.win_rate import prompt_scores
from schemas.parquet import write_table
from schemas.sharded import ShardedTable
from schemas.stage import StageContext
from schemas.tables import COMPARISONS, VERDICTS, Table
from stages.evaluate.compare import comparison_rows, judge_rows
from stages.evaluate.config import EvaluateConfig
from stages.evaluate.sampling import Completions

Row = dict[str, Any]


class OtherModel:
    """One further model: its completions, comparisons with the baseline, and verdicts on them.

    Its tables stand beside the policy's, with its name at the end of theirs.
    """

    def __init__(
        self, name: str, prompts: Sequence[Row], config: EvaluateConfig, context: StageContext
    ) -> None:
        self.name = name
        self.source = config.compare_with[name]
        self.fingerprint = model_fingerprint(self.source)
        self.completions = Completions(name, prompts, config, context)
        self._config = config
        self._context = context
        self._verdicts = ShardedTable(context.output, VERDICTS, f"verdicts_{name}")
        self._comparisons: list[Row] = []

    def sample(self) -> None:
        """Write what is missing of its completions."""
        if self.completions.missing:
            sampler = open_sampler(self._config.sampler, self.source, self._context.runtime)
            try:
                self.completions.sample(sampler)
            finally:
                sampler.close()

    def scores(self, judge: Judge, baseline: Sequence[Row]) -> dict[str, float]:
        """Its score against the baseline by prompt, in the eyes of a judge."""
        self._comparisons = comparison_rows(self.completions.rows(), baseline)
        title = f"verdicts by {judge.name} on {self.name}"
        judge_rows(judge, self._comparisons, self._verdicts, self._context.progress, title)
        return prompt_scores([r for r in self._verdicts.rows() if r["judge"] == judge.name])

    def merge(self) -> None:
        """Write its tables."""
        self.completions.merge()
        self._verdicts.merge(("judge", "comparison_id", "order"))
        table = Table(f"comparisons_{self.name}", COMPARISONS.schema, COMPARISONS.key)
        write_table(self._context.output / table.file_name, table, self._comparisons)


def differences(scores: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Every two models, paired by prompt; the baseline scores 0.5 against itself.

    Args:
        scores: model -> prompt_id -> score against the baseline; the policy first.

    Returns:
        `{first, second, difference: {value, ci_low, ci_high, ...}, p_value, p_holm, verdict,
        minimum_detectable_effect, prompts_to_settle}` of each; `p_holm` counts all of them. Two
        models without a common prompt are left out.
    """
    prompts = {prompt for of in scores.values() for prompt in of}
    known = {**scores, "baseline": dict.fromkeys(sorted(prompts), 0.5)}
    found = {
        (first, second): difference
        for first, second in combinations(known, 2)
        if (difference := policy_difference(known[first], known[second])) is not None
    }
    adjusted = holm({" ".join(pair): one.p_value for pair, one in found.items()})
    return [
        {"first": pair[0], "second": pair[1], **one.to_json(), "p_holm": adjusted[" ".join(pair)]}
        for pair, one in found.items()
    ]
