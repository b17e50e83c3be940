"""A panel: several judges that are asked the same, and one rule for what they say together."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from evals.judges.interface import Judge, release
from evals.judges.kinds.length import LengthJudge
from evals.judges.kinds.llm import LlmJudge
from evals.judges.kinds.preference_model import PreferenceModelJudge
from evals.judges.kinds.reward_model import RewardModelJudge
from evals.judges.kinds.rule import RuleJudge
from evals.judges.orders import is_pointwise_judge
from evals.judges.resolution import mean_of
from schemas.errors import UnreachableError
from schemas.ids import content_id
from schemas.labels import (
    Comparison,
    LabelProbabilities,
    Preference,
    Rated,
    Unscored,
    Verdict,
)
from schemas.stage import Config, Runtime

Rule = Literal["mean", "vote"]

MemberKind = Annotated[
    RuleJudge | LengthJudge | PreferenceModelJudge | RewardModelJudge | LlmJudge,
    Field(discriminator="kind"),
]
"""Every kind of judge that can sit on a panel: all but a panel."""


class PanelJudge(Config):
    """Several judges, averaged or voted.

    Members that could not score are left out of a comparison, and named. Where fewer than
    `min_scored` are left it is unscored (`panel_quorum`), and so it is where they are exactly
    divided (`panel_split`): neither is a tie.
    """

    kind: Literal["panel"] = "panel"
    members: tuple[MemberKind, ...] = Field(
        min_length=2, description="the judges, best of different families"
    )
    rule: Rule = Field(
        "mean", description="mean: of their probabilities; vote: shares of their verdicts"
    )
    min_scored: int | None = Field(
        None,
        ge=1,
        description="members that must have scored; null takes more than half. Where so many can "
        "be reached, the panel goes on without the others, and says so",
    )

    @model_validator(mode="after")
    def _enough_members(self) -> "PanelJudge":
        if self.quorum > len(self.members):
            raise ValueError(
                f"min_scored: {self.min_scored} of {len(self.members)} members can never be"
            )
        return self

    @property
    def quorum(self) -> int:
        """Members that must have scored."""
        return self.min_scored or len(self.members) // 2 + 1

    def open(self, folder: Path | None, runtime: Runtime) -> Judge:
        """Open all members. Raises what opening one raises."""
        return Panel(self, [member.open(folder, runtime) for member in self.members])


class Panel:
    """Open members and their rule; `raw` of a verdict holds what each of them said."""

    name = "panel"

    def __init__(self, config: PanelJudge, members: Sequence[Judge]) -> None:
        """`members` in the order of the settings."""
        self._config = config
        self._members = members
        self._lost: dict[int, str] = {}

    @property
    def has_a_layout(self) -> bool:
        """Whether any member is shown a layout."""
        return any(getattr(member, "has_a_layout", False) for member in self._members)

    @property
    def pointwise(self) -> bool:
        """Whether no member is ever shown two completions side by side."""
        return all(is_pointwise_judge(member) for member in self._members)

    def with_reference(self, comparison: Comparison) -> bool | None:
        """Whether any member is shown a reference answer; None where none ever is."""
        asked = [getattr(member, "with_reference", None) for member in self._members]
        said = [one(comparison) for one in asked if one is not None]
        known = [one for one in said if one is not None]
        return any(known) if known else None

    @property
    def fingerprint(self) -> str:
        """Hash of the rule and of the members' fingerprints."""
        rule = (self._config.rule, str(self._config.quorum))
        return content_id("judge", self.name, *rule, *(m.fingerprint for m in self._members))

    def judge(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        """One verdict per comparison, in order.

        Where a member cannot be reached and enough are left, the panel goes on without it.

        Raises:
            UnreachableError: too few members can be reached.
        """
        found = [self._asked(number, comparisons) for number in range(len(self._members))]
        return [self._together(said) for said in zip(*found, strict=True)]

    def _asked(self, number: int, comparisons: Sequence[Comparison]) -> list[Verdict]:
        member = self._members[number]
        if number not in self._lost:
            try:
                return member.judge(comparisons)
            except UnreachableError as error:
                if len(self._members) - len(self._lost) - 1 < self._config.quorum:
                    raise
                self._lost[number] = str(error)
        unscored = Unscored("unreachable", self._lost[number])
        return [unscored] * len(comparisons)

    @property
    def usage(self) -> dict[str, float]:
        """Running numbers of all members together."""
        total: Counter[str] = Counter()
        for member in self._members:
            total.update(getattr(member, "usage", {}))
        return dict(total)

    @property
    def warnings(self) -> list[str]:
        """What may spoil the result, of all members."""
        all_members = len(self._members)
        left = all_members - len(self._lost)
        lost = [
            f"{self._members[number].name} (member {number + 1}) cannot be reached ({why}); "
            f"went on with {left} of {all_members} members, of which {self._config.quorum} are "
            "enough"
            for number, why in self._lost.items()
        ]
        return lost + [w for member in self._members for w in getattr(member, "warnings", ())]

    def close(self) -> None:
        """Give back what the members hold."""
        for member in self._members:
            release(member)

    def _together(self, said: Sequence[Verdict]) -> Verdict:
        verdict = decide(said, self._config.rule, self._config.quorum)
        names = [member.name for member in self._members]
        raw = json.dumps(
            [_said(name, one) for name, one in zip(names, said, strict=True)], sort_keys=True
        )
        return _with_record(verdict, raw, said, [member.fingerprint for member in self._members])


def decide(said: Sequence[Verdict], rule: Rule, quorum: int) -> Verdict:
    """What the members say together, before `raw` and tokens."""
    scored = [v for v in said if isinstance(v, LabelProbabilities)]
    if len(scored) < quorum:
        reasons = Counter(v.reason for v in said if isinstance(v, Unscored))
        counted = ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items()))
        return Unscored("panel_quorum", f"{len(scored)} of {quorum} members scored; {counted}")
    if rule == "mean":
        mean = mean_of(scored)
        lone = mean.p_a == mean.p_b > mean.p_tie and any(v.p_a != v.p_b for v in scored)
        return Unscored("panel_split", "the members are exactly divided") if lone else mean
    votes = Counter(v.preference for v in scored)
    winners = [label for label in Preference if votes[label] == max(votes.values())]
    if len(winners) > 1:
        counted = ", ".join(f"{label.value} {votes[label]}" for label in Preference)
        return Unscored("panel_split", counted)
    shares = {label: votes[label] / len(scored) for label in Preference}
    return LabelProbabilities(shares[Preference.A], shares[Preference.B], shares[Preference.TIE])


def _said(name: str, verdict: Verdict) -> dict[str, Any]:
    if isinstance(verdict, Unscored):
        return {"judge": name, "unscored": verdict.reason, "detail": verdict.detail}
    said = {"judge": name, "p_a": verdict.p_a, "p_b": verdict.p_b, "p_tie": verdict.p_tie}
    if verdict.rated is None:
        return said
    return said | {"rating_a": verdict.rating_a, "rating_b": verdict.rating_b}


def _with_record(
    verdict: Verdict, raw: str, said: Sequence[Verdict], members: Sequence[str]
) -> Verdict:
    """The verdict with what each member said, about the order shown, and the tokens of all."""
    return replace(
        verdict,
        raw=raw,
        prompt_tokens=_total(v.prompt_tokens for v in said),
        completion_tokens=_total(v.completion_tokens for v in said),
        rated=_rated(said, members),
    )


def _rated(said: Sequence[Verdict], members: Sequence[str]) -> tuple[Rated, ...] | None:
    """The ratings of the members that rate, and what the others took; None where nobody rates.

    One completion has a rating by each member: their fingerprints keep them apart.
    """
    if all(one.rated is None for one in said):
        return None
    found: list[Rated] = []
    for member, one in zip(members, said, strict=True):
        if one.rated is None:
            found.append(Rated(None, one.prompt_tokens, one.completion_tokens))
        for rated in one.rated or ():
            own = content_id("rating of a member", member, str(rated.rating_id))
            found.append(replace(rated, rating_id=own))
    return tuple(found)


def _total(counts: Iterable[int | None]) -> int | None:
    known = [n for n in counts if n is not None]
    return sum(known) if known else None
