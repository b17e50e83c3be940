"""A language model that judges by a rubric, untrained: asked in words, scored by label tokens.

The rubrics are the text files in `rubrics/`; their content is part of the fingerprint.
"""

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field

from evals.judges.interface import Judge
from evals.judges.label_scoring import LabelScorer, LabelScoring
from evals.judges.layout import (
    LAYOUT_VERSION,
    SECTION_A,
    SECTION_B,
    SECTION_PREFERENCE,
    SECTION_PROMPT,
    neutralise,
    text_of,
)
from evals.models.checkpoints import ModelSource
from schemas.ids import content_id
from schemas.labels import Comparison, Message, Messages
from schemas.stage import Runtime

Rubric = Literal["general", "helpfulness", "harmlessness", "instruction_following"]

_ANSWER = "Answer with one word: A, B or Tie."


class LlmJudge(LabelScoring):
    """An instruction-tuned model, given a rubric and asked for one of the three labels."""

    kind: Literal["llm"] = "llm"
    model: ModelSource = Field(description="the judge; of another family than the policy, best")
    rubric: Rubric = Field("general", description="what to judge by, a file of rubrics/")

    def chat(self, comparison: Comparison) -> list[Message]:
        """One user turn: rubric, prompt, both completions, and what to answer."""
        sections = (
            (SECTION_PROMPT, _conversation(comparison.prompt)),
            (SECTION_A, text_of(neutralise(comparison.completion_a))),
            (SECTION_B, text_of(neutralise(comparison.completion_b))),
            (SECTION_PREFERENCE, _ANSWER),
        )
        body = "\n\n".join(f"{title}\n{text}" for title, text in sections)
        return [{"role": "user", "content": f"{self._rubric}\n{body}"}]

    @property
    def layout(self) -> str:
        """The layout's version and the rubric's content."""
        return content_id("rubric", LAYOUT_VERSION, self._rubric, _ANSWER)

    def open(self, folder: Path | None, runtime: Runtime) -> Judge:
        """Load the model. Raises what loading it raises."""
        return LabelScorer(f"llm:{self.rubric}", self, self.model, runtime)

    @cached_property
    def _rubric(self) -> str:
        return (Path(__file__).parent / "rubrics" / f"{self.rubric}.md").read_text()


def _conversation(prompt: Messages) -> str:
    """A single user turn as it stands; a longer prompt with who says what."""
    turns = neutralise(prompt)
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n\n".join(f"[{turn['role']}] {turn['content']}" for turn in turns)
