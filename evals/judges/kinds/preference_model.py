"""A causal language model that has learned to read a comparison and answer with one label token."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from evals.judges.interface import Judge
from evals.judges.layout import LAYOUT_VERSION, SectionRole, comparison_chat
from evals.judges.scoring.config import LabelScoring, open_label_judge
from evals.models.checkpoints import ModelSource
from schemas.errors import ConfigError
from schemas.labels import Comparison, Message
from schemas.stage import Runtime

MODEL_FOLDER = "model"
"""Where a judge stage puts the model it has trained, in its own directory."""


class PreferenceModelJudge(LabelScoring):
    """A causal language model, scored by the log-probabilities of its label tokens."""

    kind: Literal["preference_model"] = "preference_model"
    model: ModelSource | None = Field(
        None, description="the model; null takes the one trained by [sft] or by [judge]"
    )
    section_role: SectionRole = Field(
        "system",
        description="who speaks the section markers; user where a chat template refuses system "
        "turns in the middle of a conversation",
    )

    show_reasoning: bool = Field(
        False, description="show the judge the completions' own reasoning too, not answers alone"
    )

    def chat(self, comparison: Comparison) -> list[Message]:
        """The layout of `evals.judges.layout`."""
        return comparison_chat(comparison, self.section_role, self.show_reasoning)

    @property
    def layout(self) -> str:
        """The layout's version."""
        return LAYOUT_VERSION

    def open(self, folder: Path | None, runtime: Runtime) -> Judge:
        """Load the model trained in `folder`, else the one the settings name.

        Raises:
            ConfigError: neither is there, or the tokenizer cannot tell the labels apart.
        """
        source = self.trained_model(folder) or self.model
        if source is None:
            raise ConfigError(
                "judge: a preference_model needs a model: set judge.model, or give it [training]"
            )
        return open_label_judge(self.kind, self, source, runtime)

    def trained_model(self, folder: Path | None) -> ModelSource | None:
        """The model that a judge stage has trained in its directory `folder`, if it has."""
        path = folder / MODEL_FOLDER if folder else None
        return ModelSource(path=str(path)) if path and path.is_dir() else None
