"""Settings of what happens beside the training of a policy: generations, and when to warn."""

from typing import Literal

from pydantic import Field

from evals.models.samplers.config import SamplingSettings
from schemas.stage import Config


class GenerationSettings(SamplingSettings):
    """Completions of the same few prompts at every evaluation, drawn with the same seeds."""

    prompts: int = Field(
        16, ge=0, description="held-out prompts to complete at every evaluation; 0: none"
    )
    max_tokens: int = Field(
        128, ge=1, description="longest completion; one that has not ended by then is cut off"
    )
    world: Literal["food"] | None = Field(
        None, description="world whose rule says which completions are well-formed"
    )


class GuardSettings(Config):
    """From where on the guard speaks up; every measure is compared with the start's."""

    chosen_fall: float = Field(
        0.1,
        ge=0,
        description="share of the reference's mean log p(chosen) by which the policy's may be "
        "lower; less than 1 nat never counts",
    )
    collapse_fall: float = Field(
        1.0,
        gt=0,
        description="share of the reference's mean log p(chosen) by which the policy's may be "
        "lower before it counts as collapsed, and is not published; 10 nats at least",
    )
    end_of_turn_fall: float = Field(
        0.2, ge=0, description="by how much the share of completions that end may fall"
    )
    well_formed_fall: float = Field(
        0.2, ge=0, description="by how much the share of well-formed completions may fall"
    )
    length_drift: float = Field(
        1.5,
        gt=1,
        description="factor by which the mean length may grow or shrink; less than 8 tokens never "
        "count",
    )
