"""Comparisons in the words of the preference-learning tutorials: prompt, A, B and a label."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from jinja2.sandbox import ImmutableSandboxedEnvironment

from evals.judges.layout import comparison_chat
from evals.models.chat.templates.named_templates import CHAT_TEMPLATES
from schemas.errors import DataError
from schemas.ids import comparison_id, prompt_id
from schemas.labels import Comparison as Shown
from schemas.labels import Message

Label = Literal["A", "B", "Tie"]
_SWAPPED: dict[str, Label] = {"A": "B", "B": "A", "Tie": "Tie"}


@dataclass(frozen=True)
class Comparison:
    """A prompt and two completions of it, each a list of messages."""

    prompt_conversation: Sequence[Message]
    completion_A: Sequence[Message]
    completion_B: Sequence[Message]

    def swap(self) -> "Comparison":
        """The same with A and B exchanged."""
        return replace(self, completion_A=self.completion_B, completion_B=self.completion_A)

    def shown(self) -> Shown:
        """As judges take it, with the ids of its texts."""
        texts = (self.prompt_conversation, self.completion_A, self.completion_B)
        return Shown(comparison_id(*texts), prompt_id(texts[0]), *texts)


@dataclass(frozen=True)
class LabeledComparison:
    """A comparison and which completion is better: A, B or Tie."""

    comparison: Comparison
    label: Label

    def __post_init__(self) -> None:
        if self.label not in _SWAPPED:
            raise DataError(f"label is {self.label!r}, must be A, B or Tie")

    def swap(self) -> "LabeledComparison":
        """The same with A and B exchanged, and the label with them."""
        return LabeledComparison(self.comparison.swap(), _SWAPPED[self.label])


def render_comparison(comparison: Comparison, tokenizer: Any = None) -> str:
    """The text that a preference model reads, up to where it says A, B or Tie.

    Args:
        comparison: A is shown first.
        tokenizer: a Hugging Face tokenizer with a chat template; None writes roles and colons.
    """
    messages = [dict(turn) for turn in comparison_chat(comparison.shown())]
    if tokenizer is not None:
        rendered = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return str(rendered)
    template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(
        CHAT_TEMPLATES["role_colon"]
    )
    return template.render(
        messages=messages, add_generation_prompt=True, bos_token="", eos_token=""
    )
