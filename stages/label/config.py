"""Settings of label."""

from typing import Literal

from pydantic import Field

from schemas.stage import Config

Truncated = Literal["rejected_only", "drop", "keep"]


class LabelConfig(Config):
    """Which pairs are made of a prompt's completions, and how sure the judge must be."""

    pairs: Literal["best_vs_worst", "best_vs_random", "best_vs_mean", "all_pairs"] = Field(
        "best_vs_worst",
        description="best_vs_worst: one pair per prompt, ranked by judging every two different "
        "completions; best_vs_random: the best against one drawn of the others; best_vs_mean: "
        "against the one nearest to their mean score; all_pairs: every two of them that the judge "
        "can tell apart",
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
    require_pairs: bool = Field(
        True, description="refuse to end without a pair to train on; false where verdicts will do"
    )
    shard_size: int = Field(
        64, ge=1, description="prompts between two checkpoints; a killed run repeats at most these"
    )
