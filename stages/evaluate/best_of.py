"""The best of several samples of the baseline, by the same judge: what more sampling gives."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from evals.judges import Judge
from evals.models.contenders import OutputsFile
from evals.win_rate.win_rate import prompt_scores
from schemas.errors import ConfigError
from schemas.stage import StageContext
from stages.evaluate.compare import Match
from stages.evaluate.config import BASELINE, EvaluateConfig
from stages.evaluate.contestants import Contestant
from stages.shards.kept import KeptWork

Row = dict[str, Any]


def best_contestant(config: EvaluateConfig, models: Sequence[Contestant]) -> Contestant | None:
    """The baseline under the name of the best of its samples; None where that is not asked for.

    Raises:
        ConfigError: the baseline is a file of outputs.
    """
    if not config.best_of:
        return None
    [baseline] = [model for model in models if model.name == BASELINE]
    if isinstance(baseline.source, OutputsFile):
        raise ConfigError(
            f"evaluate.best_of: the baseline is a file, {baseline.source.outputs}, and writes no "
            "more samples; leave it out, or name the model"
        )
    return replace(baseline, name=f"{BEST_OF}{config.best_of}")


BEST_OF = "best_of_"


def best_samples(
    name: str,
    samples: Sequence[Row],
    judge: Judge,
    opens: Callable[[], Judge],
    kept: KeptWork,
    context: StageContext,
) -> tuple[list[Row], list[Row]]:
    """Of each prompt the sample that beats the others one after another, in both orders.

    The first leads; each further one takes its place where its score against the leader is above
    one half. One that has no verdict does not.

    Args:
        name: under which the samples compete.
        samples: COMPLETIONS rows, several of a prompt.
        judge: who chooses.
        opens: opens the same judge elsewhere.
        kept: holds the verdicts while the stage goes on.
        context: of the stage.

    Returns:
        One row per prompt, as its sample 0, and the verdicts that chose.
    """
    leading: dict[str, Row] = {}
    rest: dict[int, list[Row]] = {}
    for row in sorted(samples, key=lambda row: (row["prompt_id"], row["sample_index"])):
        if row["prompt_id"] not in leading:
            leading[row["prompt_id"]] = {**row, "sample_index": 0}
        else:
            rest.setdefault(row["sample_index"], []).append({**row, "sample_index": 0})
    spent: list[Row] = []
    for index in sorted(rest):
        further = {row["prompt_id"]: row for row in rest[index]}
        match = Match(f"{name}_{index}", rest[index], [*leading.values()], kept, context)
        verdicts = match.judge(judge, opens)
        spent += verdicts
        for prompt, score in prompt_scores(verdicts).items():
            if score > 0.5:
                leading[prompt] = further[prompt]
    return [*leading.values()], spent
