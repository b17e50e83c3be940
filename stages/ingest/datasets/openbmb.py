"""openbmb/UltraFeedback: up to four completions of an instruction, each rated on four aspects.

Ratings are strings, some "N/A"; `fine-grained_score` may be NaN, so it is always recomputed as
the mean of the ratings that are numbers. In copies from before 2023-12-29 an `overall_score` of 10
may stand for 1 (openbmb/UltraFeedback, issue 8): see `overall_score`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.labels import Message, Preference
from stages.ingest.datasets.config import OpenBMBDataset, Score
from stages.ingest.examples import (
    Annotation,
    ComparisonExample,
    Example,
    RowError,
    check_prompt,
    field,
    optional_text,
    text_field,
)
from stages.ingest.filters.contamination import refuse_truthful_qa
from stages.ingest.readers.raw_rows import RawRow
from stages.ingest.readers.sources import FileReader

ASPECTS = ("helpfulness", "honesty", "instruction_following", "truthfulness")
_BUGGED = 10.0
"""What `overall_score` says where 1 was meant, and, rarely, where 10 was."""
_POOR, _GOOD = 2.0, 4.0
"""Means of the aspects (1 to 5) at which a 10 is surely a 1, and above which it is a 10."""


@dataclass(frozen=True)
class Rated:
    """One completion and its scores; an aspect that was not rated is not in `ratings`."""

    text: str
    ratings: Mapping[str, float]
    overall: float | None

    def score(self, name: Score) -> float | None:
        """The score by that name, None where the raters gave none."""
        if name == "overall":
            return overall_score(self.overall, self.score("fine_grained"))
        if name != "fine_grained":
            return self.ratings.get(name)
        return math.fsum(self.ratings.values()) / len(self.ratings) if self.ratings else None


class OpenBMBReader(FileReader[OpenBMBDataset]):
    """Rows of OpenBMB."""

    def parse(self, row: Mapping[str, Any]) -> ComparisonExample:
        """The first comparison of a row. Raises RowError."""
        return self.parse_all(row)[0]

    def parse_all(self, row: Mapping[str, Any]) -> list[ComparisonExample]:
        """All comparisons of a row, at least one. Raises RowError where there is none."""
        refuse_truthful_qa(row, self.config.truthful_qa)
        instruction = text_field(row, "instruction")
        prompt: list[Message] = [{"role": "user", "content": instruction}]
        check_prompt(prompt)
        rated = self._comparable(row)
        scores = [score for _, score in rated]
        picked = self.config.pairs.pick(scores, instruction)
        if not picked:
            raise RowError("scores_too_close", f"no two of {sorted(scores)} are far enough apart")
        category = optional_text(row, "source")
        return [
            self._example(prompt, category, rated[better], rated[worse]) for better, worse in picked
        ]

    def outcomes(self, origin: RawRow) -> Sequence[Example | RowError]:
        """All comparisons of one raw row, or what is wrong with it."""
        if isinstance(origin.value, RowError):
            return [origin.value]
        try:
            return self.parse_all(origin.value)
        except RowError as error:
            return [error]

    def _comparable(self, row: Mapping[str, Any]) -> list[tuple[Rated, float]]:
        """Completions with a text and a score, each text once: the first that says it."""
        listed = field(row, "completions")
        if not isinstance(listed, list):
            raise RowError("wrong_type", "completions must be a list of objects")
        all_rated = [_rated(completion, f"completions[{i}]") for i, completion in enumerate(listed)]
        found: dict[str, tuple[Rated, float]] = {}
        for rated in all_rated:
            score = rated.score(self.config.score)
            if score is not None and rated.text.strip():
                found.setdefault(rated.text.strip(), (rated, score))
        if len(found) < 2:
            raise RowError(
                "too_few_completions",
                f"{len(found)} of {len(listed)} completions have a text of their own and a score",
            )
        return list(found.values())

    def _example(
        self,
        prompt: list[Message],
        category: str | None,
        better: tuple[Rated, float],
        worse: tuple[Rated, float],
    ) -> ComparisonExample:
        margin = better[1] - worse[1]
        return ComparisonExample(
            prompt,
            [{"role": "assistant", "content": better[0].text}],
            [{"role": "assistant", "content": worse[0].text}],
            Preference.A if margin > 0 else Preference.TIE,
            margin,
            annotations=list(_by_aspect(better[0], worse[0])),
            category=category,
            label_source="model",
            chosen_first=True,
        )


def overall_score(stated: float | None, fine_grained: float | None) -> float | None:
    """`overall_score` in [1, 10] without its bug; None where nobody knows what was meant.

    A 10 whose aspects average 2 or less was a 1, one above 4 is a 10 (the rule by which the data
    set was repaired); in between its authors rated anew, and nothing in the row says how.
    """
    if stated != _BUGGED:
        return stated
    if fine_grained is None:
        return None
    if fine_grained <= _POOR:
        return 1.0
    return stated if fine_grained > _GOOD else None


def _rated(completion: Any, where: str) -> Rated:
    if not isinstance(completion, Mapping):
        raise RowError("wrong_type", f"{where} must be an object")
    annotations = completion.get("annotations") or {}
    if not isinstance(annotations, Mapping):
        raise RowError("wrong_type", f"{where}: annotations must be an object")
    ratings = {aspect: _rating(annotations.get(aspect), f"{where} {aspect}") for aspect in ASPECTS}
    return Rated(
        text_field(completion, "response"),
        {aspect: rating for aspect, rating in ratings.items() if rating is not None},
        _number(completion.get("overall_score"), f"{where} overall_score"),
    )


def _rating(annotation: Any, where: str) -> float | None:
    """The number in an aspect's annotation; "N/A" and nothing at all are None."""
    return _number(annotation.get("Rating"), where) if isinstance(annotation, Mapping) else None


def _number(value: Any, where: str) -> float | None:
    if value is None or (isinstance(value, str) and value.strip().upper() in ("", "N/A", "NONE")):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RowError("unreadable_rating", f"{where} is {str(value)[:40]!r}") from error
    return number if math.isfinite(number) else None


def _by_aspect(better: Rated, worse: Rated) -> Iterator[Annotation]:
    """What each aspect says of the two, where both were rated on it."""
    for aspect in ASPECTS:
        if aspect in better.ratings and aspect in worse.ratings:
            margin = better.ratings[aspect] - worse.ratings[aspect]
            label = Preference.TIE if not margin else Preference.A if margin > 0 else Preference.B
            yield Annotation(label, abs(margin), None, f"aspect:{aspect}")
