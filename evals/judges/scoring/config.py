"""Settings of scoring by label tokens."""

from abc import ABC, abstractmethod
from typing import Literal

from pydantic import Field

from evals.judges.interface import Judge
from evals.models.checkpoints import Dtype, ModelSource
from schemas.labels import Comparison, Message
from schemas.stage import Config, Runtime, implementation

_ENGINES = {
    "transformers": "evals.judges.scoring.transformers:LabelScorer",
    "vllm": "evals.judges.scoring.vllm:VllmLabelScorer",
}


class LabelScoring(Config, ABC):
    """What every judge that is scored by label tokens can be told; a kind adds `chat`."""

    min_label_mass: float = Field(
        0.5,
        ge=0,
        le=1,
        description="least probability that A, B and Tie must have together; below it the model "
        "would rather say something else, and the comparison is unscored",
    )
    max_prompt_tokens: int | None = Field(
        None, ge=1, description="most tokens that the judge reads; null takes the model's own limit"
    )
    overlong: Literal["cut", "unscored"] = Field(
        "cut",
        description="comparisons beyond max_prompt_tokens: cut shows the longer completions up to "
        "where all of it fits, says so in them and counts it; unscored leaves them out, which "
        "spares a policy that writes too long its losses",
    )
    prefill: str = Field(
        "",
        description="what the answer begins with, in front of the label; for models that would "
        "begin with other words",
    )
    dtype: Dtype = Field("float32", description="type of weights and arithmetic")
    engine: Literal["transformers", "vllm"] = Field(
        "transformers", description="what reads the model; vllm where `make vllm` installed it"
    )

    @abstractmethod
    def chat(self, comparison: Comparison) -> list[Message]:
        """The conversation whose next token is the label."""

    def with_reference(self, comparison: Comparison) -> bool | None:
        """Whether a reference answer is shown with it; None where none ever is."""
        return None

    @property
    @abstractmethod
    def layout(self) -> str:
        """Names what `chat` shows, for the fingerprint."""


def open_label_judge(
    name: str, config: LabelScoring, source: ModelSource, runtime: Runtime
) -> Judge:
    """Load the model into the engine that the settings name. Raises what loading it raises."""
    judge: Judge = implementation(_ENGINES[config.engine])(name, config, source, runtime)
    return judge
