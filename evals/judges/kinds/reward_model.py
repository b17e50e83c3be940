"""A reward model: a sequence classifier that gives each completion a number of its own."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from evals.judges.interface import Judge
from evals.judges.kinds.preference_model import MODEL_FOLDER
from evals.models.checkpoints import Dtype, ModelSource
from schemas.stage import Config, Runtime, implementation

_ENGINES = {
    "transformers": "evals.judges.scoring.transformers_rewards:RewardScorer",
    "vllm": "evals.judges.scoring.vllm_rewards:VllmRewardScorer",
}


class RewardModelJudge(Config):
    """A sequence classifier with one label; p(A) = sigmoid(reward of A - reward of B).

    That is the Bradley-Terry model, which such classifiers are trained on. It knows no tie, and
    sees each completion alone, so the order shown changes nothing.
    """

    kind: Literal["reward_model"] = "reward_model"
    model: ModelSource = Field(
        description="a sequence classifier with one label; with judge.training what it is trained "
        "from, a language model too"
    )
    max_prompt_tokens: int | None = Field(
        None, ge=1, description="most tokens that the judge reads; null takes the model's limit"
    )
    overlong: Literal["cut", "unscored"] = Field(
        "cut",
        description="conversations beyond max_prompt_tokens: cut shows the completion up to where "
        "all of it fits, says so in it and counts it; unscored leaves it out",
    )
    show_reasoning: bool = Field(
        False, description="show the judge the completions' own reasoning too, not answers alone"
    )
    dtype: Dtype = Field("float32", description="type of weights and arithmetic")
    engine: Literal["transformers", "vllm"] = Field(
        "transformers", description="what reads the model; vllm where `make vllm` installed it"
    )

    def open(self, folder: Path | None, runtime: Runtime) -> Judge:
        """Load the model trained in `folder`, else the one the settings name.

        Raises:
            ConfigError: it is no reward model, or has no chat template.
            What loading a model raises.
        """
        trained = folder / MODEL_FOLDER if folder else None
        config = self
        if trained is not None and trained.is_dir():
            config = self.model_copy(update={"model": ModelSource(path=str(trained))})
        judge: Judge = implementation(_ENGINES[self.engine])(config, runtime)
        return judge
