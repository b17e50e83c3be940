"""A judge that is a pure function: for tests, and for worlds whose true preference is known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from evals import food_world, instruction_world
from evals.judges.interface import Judge
from evals.judges.layout import answer_text
from schemas.ids import content_id
from schemas.labels import Comparison, LabelProbabilities, Messages, Preference, Verdict
from schemas.stage import Config, Runtime

Rule = Callable[[Messages, str, str], Preference]
"""Prompt, text of A and text of B to the better one."""

RuleName = Literal["food", "instructions"]

RULES: Mapping[RuleName, Rule] = {
    "food": food_world.compare,
    "instructions": instruction_world.compare,
}

_VERSION = "1"


class RuleJudge(Config):
    """A known rule, applied exactly."""

    kind: Literal["rule"] = "rule"
    rule: RuleName = Field(
        "food", description="the rule: food, or instructions (how many of a prompt's are followed)"
    )

    def open(self, folder: Path | None, runtime: Runtime) -> Judge:
        """The judge; a rule has nothing to load."""
        return RuleApplied(
            name=f"rule:{self.rule}",
            fingerprint=content_id("judge", "rule", self.rule, _VERSION),
            rule=RULES[self.rule],
        )


@dataclass(frozen=True)
class RuleApplied:
    """Gives its label probability 1."""

    name: str
    fingerprint: str
    rule: Rule

    def judge(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        """One certain verdict per comparison."""
        return [
            certain(self.rule(c.prompt, answer_text(c.completion_a), answer_text(c.completion_b)))
            for c in comparisons
        ]


def certain(label: Preference) -> LabelProbabilities:
    """All probability on one label."""
    return LabelProbabilities(
        p_a=float(label is Preference.A),
        p_b=float(label is Preference.B),
        p_tie=float(label is Preference.TIE),
        raw=label.value,
    )
