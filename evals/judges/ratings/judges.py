"""Judges that rate each completion by itself: as many questions as there are completions."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from evals.judges.interface import Judge, StreamingJudge, release
from evals.judges.layout import is_shown_raw
from evals.judges.ratings.verdict import Opinion, sides_of, verdict_of
from evals.pulse import scaled
from schemas.labels import Answer, Comparison, LabelProbabilities, Verdict

_REMEMBERED = 4096


@dataclass(frozen=True)
class TieRule:
    """How far two ratings may differ and still be a tie, and the weights of the criteria."""

    within: float
    weights: Mapping[str, float]


class Rater(Judge, Protocol):
    """Answers for one completion: a comparison whose B is empty."""

    def answers(self, alone: Sequence[Comparison]) -> list[Answer]:
        """One rating per completion, in order, or why there is none."""

    def with_reference(self, comparison: Comparison) -> bool | None:
        """Whether a reference answer is shown; None where none ever is."""


class StreamingRater(Rater, StreamingJudge, Protocol):
    """The same, asked one by one."""

    def stream_answers(self, alone: Iterable[Comparison]) -> Iterator[tuple[int, Answer]]:
        """Ratings as they come, each with its completion's number."""


class PointwiseJudge:
    """A judge whose verdicts follow from its ratings; the order shown plays no part in them."""

    pointwise = True
    has_a_layout = True

    def __init__(self, rater: Rater, rule: TieRule) -> None:
        """`rater` is asked about each completion once; its latest answers are remembered."""
        self.name = rater.name
        self._rater = rater
        self._rule = rule
        self._known: dict[str, Opinion] = {}

    def with_reference(self, comparison: Comparison) -> bool | None:
        """Whether a reference answer is shown; None where none ever is."""
        return self._rater.with_reference(comparison)

    @property
    def fingerprint(self) -> str:
        """That of the judge that rates: the rule is one of its settings."""
        return self._rater.fingerprint

    @property
    def warnings(self) -> Sequence[str]:
        """What may spoil the result."""
        found: Sequence[str] = getattr(self._rater, "warnings", ())
        return found

    def close(self) -> None:
        """Give back what the rater holds."""
        release(self._rater)

    def judge(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        """One verdict per comparison, in order."""
        sides = [sides_of(comparison) for comparison in comparisons]
        alone = {one.comparison_id: one for both in sides for one in both}
        remembered = {} if is_shown_raw() else self._known  # what is shown raw is another question
        asked = {key: one for key, one in alone.items() if key not in remembered}
        known = {key: remembered[key] for key in alone.keys() - asked.keys()}
        # Progress is told in comparisons.
        with scaled(len(comparisons) / max(1, len(asked))):
            found = self._rater.answers(list(asked.values())) if asked else []
        new = {key: _opinion(one) for key, one in zip(asked, found, strict=True)}
        if not is_shown_raw():
            self._known = dict([*self._known.items(), *new.items()][-_REMEMBERED:])
        return [_verdict(both, known | new, self._rule) for both in sides]


class StreamingPointwiseJudge:
    """The same behind a server, whose answers are on the disk: none is asked or paid for twice."""

    pointwise = True
    has_a_layout = True

    def __init__(self, rater: StreamingRater, rule: TieRule) -> None:
        """Nothing is asked yet."""
        self.name = rater.name
        self.fingerprint = rater.fingerprint
        self._rater = rater
        self._rule = rule

    def with_reference(self, comparison: Comparison) -> bool | None:
        """Whether a reference answer is shown; None where none ever is."""
        return self._rater.with_reference(comparison)

    @property
    def usage(self) -> Mapping[str, float]:
        """Running numbers of the latest stream."""
        return self._rater.usage

    @property
    def warnings(self) -> Sequence[str]:
        """What may spoil the result."""
        return self._rater.warnings

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The price of tokens, in the unit of the prices."""
        return self._rater.cost(prompt_tokens, completion_tokens)

    def judge(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        """One verdict per comparison, in order. Raises what asking the server raises."""
        sides = [sides_of(comparison) for comparison in comparisons]
        alone = {one.comparison_id: one for both in sides for one in both}
        found = zip(alone, self._rater.answers(list(alone.values())), strict=True)
        known = {key: _opinion(one) for key, one in found}
        return [_verdict(both, known, self._rule) for both in sides]

    def stream(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[int, Verdict]]:
        """Verdicts as they come, each as soon as both of its completions are rated."""
        ledger = _Ledger(self._rule)
        for number, answer in self._rater.stream_answers(ledger.questions(comparisons)):
            ledger.take(number, _opinion(answer))
            yield from ledger.finished()
        yield from ledger.finished()


class _Ledger:
    """Which completions are asked about, and which comparisons wait for them."""

    def __init__(self, rule: TieRule) -> None:
        self._rule = rule
        self._asked: list[str] = []
        self._known: dict[str, Opinion] = {}
        self._sides: dict[int, tuple[Comparison, Comparison]] = {}
        self._waiting: dict[str, list[int]] = {}
        self._ready: deque[tuple[int, tuple[Comparison, Comparison]]] = deque()

    def questions(self, comparisons: Iterable[Comparison]) -> Iterator[Comparison]:
        """Each completion once, however many comparisons it is in."""
        for number, comparison in enumerate(comparisons):
            self._sides[number] = sides = sides_of(comparison)
            for one in sides:
                key = one.comparison_id
                if key in self._known:
                    continue
                waiting = self._waiting.setdefault(key, [])
                waiting.append(number)
                if len(waiting) == 1:
                    self._asked.append(key)
                    yield one
            self._settle(number)

    def take(self, number: int, opinion: Opinion) -> None:
        """The answer to a question."""
        key = self._asked[number]
        self._known[key] = opinion
        for waits in self._waiting.pop(key):
            self._settle(waits)

    def _settle(self, number: int) -> None:
        sides = self._sides.get(number)
        if sides and all(one.comparison_id in self._known for one in sides):
            self._ready.append((number, self._sides.pop(number)))

    def finished(self) -> Iterator[tuple[int, Verdict]]:
        """The verdicts that can be given since."""
        while self._ready:
            number, sides = self._ready.popleft()
            yield number, _verdict(sides, self._known, self._rule)


def _opinion(answer: Answer) -> Opinion:
    if isinstance(answer, LabelProbabilities):
        raise TypeError("a verdict in place of a rating")
    return answer


def _verdict(
    sides: tuple[Comparison, Comparison], known: Mapping[str, Opinion], rule: TieRule
) -> Verdict:
    a, b = (one.comparison_id for one in sides)
    return verdict_of((a, b), (known[a], known[b]), rule.within, rule.weights)
