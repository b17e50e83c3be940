"""label: turns sampled completions into pairs that a judge stands by in both orders."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from schemas.stage import Config, Stage, StageContext
from schemas.work import Known, Work

Truncated = Literal["rejected_only", "drop", "keep"]


class LabelConfig(Config):
    """Which pairs are made of a prompt's completions, and how sure the judge must be."""

    pairs: Literal["best_vs_worst", "all_pairs"] = Field(
        "best_vs_worst",
        description="best_vs_worst: one pair per prompt, ranked by judging every two different "
        "completions; all_pairs: every two of them that the judge can tell apart",
    )
    min_margin: float = Field(
        0.1,
        ge=0,
        le=1,
        description="least |p(A) - p(B)| of the mean of both orders; closer calls are dropped",
    )
    truncated: Truncated = Field(
        "rejected_only",
        description="completions that ran into max_tokens: rejected_only never chooses one, since "
        "that would teach to stop in mid-sentence; drop leaves them out; keep takes them as any",
    )
    shard_size: int = Field(
        64, ge=1, description="prompts between two checkpoints; a killed run repeats at most these"
    )


def _run(config: LabelConfig, context: StageContext) -> Mapping[str, int]:
    from stages.label.flow import run

    return run(config, context)


def _work(config: LabelConfig, known: Known) -> Work:
    sampled = known.get("sample", {})
    prompts, completions = sampled.get("prompts"), sampled.get("completions")
    if not prompts or not completions:
        return Work("verdicts")
    each = completions / prompts
    comparisons = round(prompts * each * (each - 1) / 2)
    pairs = prompts if config.pairs == "best_vs_worst" else comparisons
    return Work("verdicts", 2 * comparisons, counts={"pairs": pairs})


STAGE = Stage(
    name="label",
    summary="pair sampled completions by the judge's verdicts in both orders",
    config=LabelConfig,
    inputs=("sample", "judge"),
    run=_run,
    version=3,
    work=_work,
)
