"""Conversations, comparisons and what a judge may say of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NotRequired, TypedDict


class ToolFunction(TypedDict):
    """The function of a tool call; `arguments` is the JSON text of an object."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """A call that an assistant makes beside or instead of an answer."""

    function: ToolFunction
    id: NotRequired[str | None]


class Message(TypedDict):
    """One turn of a conversation; a field that is None is as good as absent.

    `content` is the empty text where a turn has none beside its tool calls. `reasoning` is what an
    assistant thought before it. `name` and `tool_call_id` say whose result a tool's turn is.
    `extra` is the JSON text of an object with the keys that nothing here reads.
    """

    role: str
    content: str
    reasoning: NotRequired[str | None]
    tool_calls: NotRequired[list[ToolCall] | None]
    tool_call_id: NotRequired[str | None]
    name: NotRequired[str | None]
    extra: NotRequired[str | None]


Messages = Sequence[Message]


class Preference(StrEnum):
    """Which of two completions is better. The values are what tables and judges write."""

    A = "A"
    B = "B"
    TIE = "Tie"

    def swap(self) -> "Preference":
        """The same preference after the two completions changed places."""
        return _SWAPPED[self]


_SWAPPED = {
    Preference.A: Preference.B,
    Preference.B: Preference.A,
    Preference.TIE: Preference.TIE,
}


class Order(StrEnum):
    """The order in which a judge is shown the completions: as given, or exchanged."""

    AB = "ab"
    BA = "ba"


BOTH_ORDERS = (Order.AB, Order.BA)


@dataclass(frozen=True)
class Unscored:
    """A judge's failure: an outcome of its own, never a tie.

    `reason` is a short code to count by (`low_label_mass`, `prompt_too_long`, ...), `detail` is
    for people, `raw` the reply as it came, where there was one.
    """

    reason: str
    detail: str = ""
    raw: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True)
class LabelProbabilities:
    """A judge's answer: probabilities over the three labels, summing to 1.

    `label_mass` is the probability in [0, 1] that the judge gave to all label tokens together
    before normalisation; None where the judge has no such notion. `raw` is the reply as it came.
    """

    p_a: float
    p_b: float
    p_tie: float
    label_mass: float | None = None
    raw: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @property
    def preference(self) -> Preference:
        """The most probable label; exactly equal sides are a tie."""
        if self.p_tie >= max(self.p_a, self.p_b) or self.p_a == self.p_b:
            return Preference.TIE
        return Preference.A if self.p_a > self.p_b else Preference.B

    @property
    def score_a(self) -> float:
        """Soft score of completion A in [0, 1]: p_a + p_tie / 2."""
        return self.p_a + self.p_tie / 2

    def swap(self) -> "LabelProbabilities":
        """The same answer after the two completions changed places."""
        return replace(self, p_a=self.p_b, p_b=self.p_a)


Verdict = LabelProbabilities | Unscored


@dataclass(frozen=True)
class Comparison:
    """A prompt and two completions of it, each a list of messages."""

    comparison_id: str
    prompt_id: str
    prompt: Messages
    completion_a: Messages
    completion_b: Messages

    def swap(self) -> "Comparison":
        """The same comparison with the completions exchanged; the id stays, as verdicts need it."""
        return replace(self, completion_a=self.completion_b, completion_b=self.completion_a)


@dataclass(frozen=True)
class LabeledComparison:
    """A comparison and the preference somebody has stated about it."""

    comparison: Comparison
    label: Preference
    strength: float | None = None
    annotations: Sequence[Preference] = field(default=())

    def swap(self) -> "LabeledComparison":
        """Exchange the completions and the label with them."""
        return replace(
            self,
            comparison=self.comparison.swap(),
            label=self.label.swap(),
            annotations=tuple(a.swap() for a in self.annotations),
        )
