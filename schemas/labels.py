"""Conversations, comparisons and what a judge may say of them."""

from collections.abc import Mapping, Sequence
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
class CriterionScore:
    """What one criterion says of a comparison.

    `score_a` is 1 where A is better by it, 0 where B is, 0.5 for a tie. `rating_a` and `rating_b`
    are there where each completion was rated by itself.
    """

    criterion: str
    weight: float
    score_a: float
    rating_a: float | None = None
    rating_b: float | None = None

    def swap(self) -> "CriterionScore":
        """The same after the two completions changed places."""
        return replace(
            self, score_a=1 - self.score_a, rating_a=self.rating_b, rating_b=self.rating_a
        )


@dataclass(frozen=True)
class Rated:
    """A rating that a verdict follows from, and the tokens that it took.

    However many verdicts follow from one, it was asked for and paid once. Without `rating_id`: the
    tokens of whatever else this verdict took.
    """

    rating_id: str | None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True)
class Unscored:
    """A judge's failure: an outcome of its own, never a tie.

    `reason` is a short code to count by (`low_label_mass`, `prompt_too_long`, ...), `detail` is
    for people, `raw` the reply as it came, where there was one. Of two completions that were rated
    by themselves one may have its rating, and `rated` says what both took.
    """

    reason: str
    detail: str = ""
    raw: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    rating_a: float | None = None
    rating_b: float | None = None
    rated: Sequence[Rated] | None = None

    def swap(self) -> "Unscored":
        """The same failure after the two completions changed places."""
        return replace(self, rating_a=self.rating_b, rating_b=self.rating_a)


@dataclass(frozen=True)
class LabelProbabilities:
    """A judge's answer: probabilities over the three labels, summing to 1.

    `label_mass` is the probability in [0, 1] that the judge gave to all label tokens together
    before normalisation; None where the judge has no such notion. `raw` is the reply as it came.
    `criteria` are the scores by each criterion, where there are any; `rating_a`, `rating_b` and
    `rated` are there where the answer follows from ratings of each completion by itself.
    """

    p_a: float
    p_b: float
    p_tie: float
    label_mass: float | None = None
    raw: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    criteria: Sequence[CriterionScore] = ()
    rating_a: float | None = None
    rating_b: float | None = None
    rated: Sequence[Rated] | None = None

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
        return replace(
            self,
            p_a=self.p_b,
            p_b=self.p_a,
            criteria=tuple(one.swap() for one in self.criteria),
            rating_a=self.rating_b,
            rating_b=self.rating_a,
        )


Verdict = LabelProbabilities | Unscored


@dataclass(frozen=True)
class Rating:
    """What a judge makes of one completion by itself, from 1 to 10, which is best.

    `aspects` are whole numbers by name; `overall` is their mean, weighted as was declared.
    """

    overall: float
    aspects: Mapping[str, int]
    raw: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


Answer = Verdict | Rating
"""What a judge may be asked for: a verdict on two completions, or a rating of one."""


@dataclass(frozen=True)
class Comparison:
    """A prompt and two completions of it, each a list of messages.

    `reference` is an answer that is known to be good, where the data bring one.
    """

    comparison_id: str
    prompt_id: str
    prompt: Messages
    completion_a: Messages
    completion_b: Messages
    reference: str | None = None

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
