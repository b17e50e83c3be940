"""What an llm judge is asked, and what it is shown: rubric, sections, answer forms, examples."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Literal

from evals.judges.layout import (
    SECTION_A,
    SECTION_B,
    SECTION_COMPLETION,
    SECTION_PREFERENCE,
    SECTION_PROMPT,
    SECTION_RATING,
    SECTION_REFERENCE,
    Imitations,
    criterion_imitation,
    neutralise,
    neutralise_text,
    rating_imitations,
    section_imitation,
    text_of,
)
from schemas.labels import Comparison, Message, Messages

AnswerForm = Literal["label", "reasoned", "scale", "criteria", "rating"]

_ANSWERS = {
    "label": "Answer with one word: A, B or Tie.",
    "reasoned": (
        "Compare them in a few sentences. Then end with a line that is one of\n"
        "Verdict: A\nVerdict: B\nVerdict: Tie"
    ),
    "scale": (
        "Compare them in a few sentences. Then end with a line that is one of\n"
        "[[A>>B]] A is clearly better\n[[A>B]] A is slightly better\n[[A=B]] neither is better\n"
        "[[B>A]] B is slightly better\n[[B>>A]] B is clearly better"
    ),
    "criteria": (
        "Compare them by each of these criteria, in a sentence each: {criteria}. Then end with one "
        "line of JSON that says for each who is better, A, B or Tie, like\n{example}"
    ),
    "rating": (
        "Say in a few sentences what is good and what is bad about it. Then end with a line that "
        "rates it with a whole number from 1, the worst, to 10, the best, like\nRating: 7"
    ),
    "ratings": (
        "Say in a sentence each how good it is by each of these criteria: {criteria}. Then end "
        "with one line of JSON that rates each with a whole number from 1, the worst, to 10, the "
        "best, like\n{example}"
    ),
}
_REMINDERS = {
    "label": "That was no answer. Answer with one word: A, B or Tie.",
    "reasoned": "State your verdict in one line: Verdict: A, Verdict: B or Verdict: Tie.",
    "scale": "State your verdict in one line: [[A>>B]], [[A>B]], [[A=B]], [[B>A]] or [[B>>A]].",
    "criteria": "State who is better by each criterion in one line of JSON like\n{example}",
    "rating": "State your rating, a whole number from 1 to 10, in one line: Rating: 7",
    "ratings": (
        "State a rating, a whole number from 1 to 10, by each criterion in one line of JSON like\n"
        "{example}"
    ),
}
_EXAMPLE_VALUES: Mapping[str, Sequence[Any]] = {"criteria": ("A", "B", "Tie"), "ratings": (7, 4, 9)}


@dataclass(frozen=True)
class Shown:
    """An example of judging: what was shown, and the answer that was right.

    A completion that was rated alone stands as A, and B is empty.
    """

    comparison: Comparison
    answer: str


@dataclass(frozen=True)
class Form:
    """How a judge is asked: the form of the answer, and the criteria by name."""

    answer: AnswerForm
    criteria: Sequence[str] = ()
    with_reasoning: bool = False

    @property
    def told(self) -> str:
        """What is said after the sections."""
        return self._filled(_ANSWERS)

    @property
    def reminder(self) -> str:
        """What is said where a reply states nothing that can be read."""
        return self._filled(_REMINDERS)

    def _filled(self, texts: Mapping[str, str]) -> str:
        kind = "ratings" if self.answer == "rating" and self.criteria else self.answer
        if not self.criteria:
            return texts[kind]
        values = cycle(_EXAMPLE_VALUES[kind])
        example = json.dumps(dict(zip(self.criteria, values, strict=False)))
        named = ", ".join(self.criteria)
        return texts[kind].replace("{criteria}", named).replace("{example}", example)

    def imitations(self, referenced: bool) -> Imitations:
        """What no text that is shown may pose as, beside what no judge's may."""
        found = [criterion_imitation(name) for name in self.criteria]
        if self.answer == "rating":
            found += rating_imitations()
        if referenced:
            found.append(section_imitation("reference"))
        return tuple(found)

    def section_text(self, shown: Comparison, reference: str | None, beside: Imitations) -> str:
        """The sections of one question, each under its title."""
        sections = [(SECTION_PROMPT, _conversation(shown.prompt, beside))]
        if reference is not None:
            sections.append((SECTION_REFERENCE, neutralise_text(reference, beside)))
        sections += [
            (title, text_of(neutralise(completion, self.with_reasoning, beside)))
            for title, completion in self._completions(shown)
        ]
        title = SECTION_RATING if self.answer == "rating" else SECTION_PREFERENCE
        sections.append((title, self.told))
        return "\n\n".join(f"{title}\n{text}" for title, text in sections)

    def _completions(self, shown: Comparison) -> list[tuple[str, Messages]]:
        if self.answer == "rating":
            return [(SECTION_COMPLETION, shown.completion_a)]
        return [(SECTION_A, shown.completion_a), (SECTION_B, shown.completion_b)]


def said_by(role: str, text: str) -> Message:
    """A turn."""
    return {"role": role, "content": text}


def _conversation(prompt: Messages, beside: Imitations) -> str:
    """A single user turn as it stands; a longer prompt with who says what."""
    turns = neutralise(prompt, further=beside)
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n\n".join(f"[{turn['role']}] {turn['content']}" for turn in turns)
