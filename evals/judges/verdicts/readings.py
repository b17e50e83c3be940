"""From the text of a reply to probabilities: a label, a step of a scale, or weighted criteria."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from evals.judges.verdicts.folding import fold
from evals.judges.verdicts.grammar import FORMS, Form
from evals.judges.verdicts.labels import offered
from evals.judges.verdicts.reading import read_label
from evals.judges.verdicts.thinking import without_thinking
from schemas.labels import CriterionScore, LabelProbabilities, Preference, Rating

SLIGHTLY = 0.75
"""Probability of a side that a scale calls slightly better."""


class Reads(Protocol):
    """How replies are read: verdicts on two completions, or ratings of one."""

    def of(self, text: str) -> LabelProbabilities | Rating | None:
        """What a reply says; None where a careful person would not be sure."""

    def why_not(self, text: str) -> tuple[str, str]:
        """A code for why it says nothing that can be read, and words."""


_OBJECTS_TRIED = 50


@dataclass(frozen=True)
class Reading:
    """How a judge's replies are read.

    `forms` are the ways in which a verdict is stated; `graded` takes a step of a scale (`A>B`) for
    less than a clear verdict (`A>>B`); `weights` by criterion ask for a JSON object with a label
    for each of them.
    """

    forms: Sequence[Form] = FORMS
    graded: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)

    def of(self, text: str) -> LabelProbabilities | None:
        """The verdict; None where a careful person would not be sure."""
        if self.weights:
            return weighted(text, self.weights)
        label = read_label(text, self.forms)
        if label is None:
            return None
        sure = SLIGHTLY if self.graded and label.steps == 1 else 1.0
        return _leaning(label.preference, sure)

    def why_not(self, text: str) -> tuple[str, str]:
        """A code for why a reply states no verdict, and words."""
        return "no_verdict", "none with a verdict"


def weighted(text: str, weights: Mapping[str, float]) -> LabelProbabilities | None:
    """Shares of the criteria's weights that each label has.

    Read from the last JSON object that gives one for every criterion; None where there is none.
    """
    answer = without_thinking(text)
    for said in json_objects(answer or ""):
        labels = {name: offered(fold(str(said.get(name, "")))) for name in weights}
        if all(labels.values()):
            total = sum(weights.values())
            share = dict.fromkeys(Preference, 0.0)
            criteria = []
            for name, label in labels.items():
                if label is not None:
                    share[label.preference] += weights[name] / total
                    score = _leaning(label.preference, 1.0).score_a
                    criteria.append(CriterionScore(name, weights[name], score))
            return LabelProbabilities(
                share[Preference.A],
                share[Preference.B],
                share[Preference.TIE],
                raw=text,
                criteria=tuple(criteria),
            )
    return None


def json_objects(text: str) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of a text, the last one first."""
    place = len(text)
    for _ in range(_OBJECTS_TRIED):
        place = text.rfind("{", 0, place)
        if place < 0:
            return
        try:
            value, _ = json.JSONDecoder(strict=False).raw_decode(text[place : place + 40_000])
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def _leaning(label: Preference, sure: float) -> LabelProbabilities:
    """A side has `sure`, the other one the rest; a tie is a tie."""
    if label is Preference.TIE:
        return LabelProbabilities(0.0, 0.0, 1.0, raw=label.value)
    p_a = sure if label is Preference.A else 1 - sure
    return LabelProbabilities(p_a, 1 - p_a, 0.0, raw=label.value)
