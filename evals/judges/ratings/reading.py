"""From the text of a reply to the rating that a careful person reads in it."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evals.judges.verdicts.folding import fold
from evals.judges.verdicts.readings import json_objects
from schemas.labels import Rating
from schemas.patterns import late

LOWEST, HIGHEST = 1, 10
OVERALL = "overall"
"""The one aspect of a rating without criteria."""

_LONGEST = 200_000
_NUMBER = r"[-+]?\d{1,40}(?:[.,]\d{1,40})?"
_OUT_OF = r"(?:\s*(?:/|out of)\s*10(?:\.0)?)?"
_VALUE = late(rf"[\s*_`\"'\[({{]*(?P<number>{_NUMBER}){_OUT_OF}[\s*_`\"'\])}}.]*")
_LINE_END = r"[ \t*_`\"'\])}.]*$"
_KEYS = ("rating", "score", OVERALL, "overall_rating", "overall_score", "final_rating")
_RATING = late(
    r"^[ \t>*_#`\-|]{0,12}(?i:(?:so|thus|therefore),?[ \t]+)?"
    r"(?i:(?:(?:my|the|final|overall)[ \t]+){0,3}(?:rating|score|overall))"
    rf"[ \t*_`]*(?:[:=]|\bis\b)[ \t*_`\"'\[(]*(?P<number>{_NUMBER}){_OUT_OF}{_LINE_END}",
    re.MULTILINE,
)
_BRACKETS = late(rf"\[\[[ \t]*(?P<number>{_NUMBER}){_OUT_OF}[ \t]*\]\]")


@dataclass(frozen=True)
class Fault:
    """Why a reply holds no rating: a code to count by, and words.

    `no_rating`: it says none at all; `aspect_missing`: some aspects have one, and some have not;
    `rating_out_of_range`; `rating_not_whole`.
    """

    reason: str
    detail: str


@dataclass(frozen=True)
class RatingReading:
    """How ratings are read from replies.

    `weights` by criterion ask for a whole number for each of them; without any there is one rating
    for all. `pattern` (its group `verdict`, its first group, else all of it) or the JSON key `key`
    then find it in place of the usual forms.
    """

    weights: Mapping[str, float]
    pattern: str | None = None
    key: str | None = None

    def of(self, text: str) -> Rating | None:
        """The rating; None where there is none that can be read."""
        found = self._read(text)
        return found if isinstance(found, Rating) else None

    def why_not(self, text: str) -> tuple[str, str]:
        """A code for why a reply holds no rating, and words."""
        found = self._read(text)
        return (found.reason, found.detail) if isinstance(found, Fault) else ("no_rating", "")

    def _read(self, text: str) -> Rating | Fault:
        shown = text[-_LONGEST:]
        said = self._said(shown)
        names = list(self.weights) or [OVERALL]
        if not any(_number(said.get(name)) is not None for name in names):
            return Fault("no_rating", "no rating is stated")
        aspects: dict[str, int] = {}
        for name in names:
            value = _whole(name, said.get(name))
            if isinstance(value, Fault):
                return value
            aspects[name] = value
        return Rating(_mean(aspects, self.weights), aspects, raw=text)

    def _said(self, text: str) -> Mapping[str, Any]:
        """What the reply says for each aspect, whatever that is."""
        if self.weights:
            return _by_name(text, list(self.weights))
        finders: list[Callable[[str], Iterator[Any]]] = []
        if self.pattern:
            finders.append(_by_pattern(self.pattern))
        if self.key:
            finders.append(_by_key([self.key]))
        found = [value for find in finders or (_usual,) for value in find(text)]
        return {OVERALL: found[-1]} if found else {}


def _mean(aspects: Mapping[str, int], weights: Mapping[str, float]) -> float:
    """The mean of the aspects, each with its weight."""
    of = [(value, weights.get(name, 1.0)) for name, value in aspects.items()]
    total = math.fsum(weight for _, weight in of)
    mean = math.fsum(value * weight for value, weight in of) / total
    return min(float(HIGHEST), max(float(LOWEST), mean))


def _whole(name: str, value: Any) -> int | Fault:
    """A whole number from 1 to 10, or what is wrong with what was said."""
    number = _number(value)
    if number is None:
        return Fault("aspect_missing", f"no number for {name}")
    if not math.isfinite(number) or number != int(number):
        return Fault("rating_not_whole", f"{name} is {number:g}")
    if not LOWEST <= number <= HIGHEST:
        return Fault("rating_out_of_range", f"{name} is {number:g}")
    return int(number)


def _number(value: Any) -> float | None:
    """The number that a JSON value states; one in an object may stand under `rating`."""
    if isinstance(value, Mapping):
        value = next((value[key] for key in _KEYS if key in value), None)
    if isinstance(value, str):
        found = _VALUE.fullmatch(fold(value))
        value = float(found["number"].replace(",", ".")) if found else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # JSON knows no largest whole number
        return math.inf


def _by_name(text: str, names: list[str]) -> Mapping[str, Any]:
    """The last JSON object that names an aspect; without one, lines like `name: 7`."""
    wanted = {_key(name): name for name in names}
    for value in json_objects(text):
        said = {wanted[_key(k)]: v for k, v in value.items() if _key(k) in wanted}
        if said:
            return said
    folded = fold(text)
    lines: dict[str, Any] = {}
    for key, name in wanted.items():
        pattern = re.compile(
            rf"^[ \t>*_#`\-|\d.)]{{0,12}}{re.escape(key)}[ \t*_`]*[:=][ \t*_`\"'\[(]*"
            rf"(?P<number>{_NUMBER}){_OUT_OF}{_LINE_END}",
            re.MULTILINE | re.IGNORECASE,
        )
        found = [one["number"] for one in pattern.finditer(folded)]
        if found:
            lines[name] = found[-1]
    return lines


def _key(name: Any) -> str:
    return fold(str(name)).strip().casefold()


def _usual(text: str) -> Iterator[Any]:
    """`Rating: 7`, `[[7]]`, `{"rating": 7}`, or a number and nothing else; the last one counts."""
    folded = fold(text)
    if _VALUE.fullmatch(folded):
        yield folded
        return
    places = [(m.end(), m["number"]) for p in (_RATING, _BRACKETS) for m in p.finditer(folded)]
    if places:
        yield max(places)[1]
        return
    yield from _by_key(_KEYS)(text)


def _by_key(keys: list[str] | tuple[str, ...]) -> Callable[[str], Iterator[Any]]:
    wanted = {_key(key) for key in keys}

    def find(text: str) -> Iterator[Any]:
        for value in json_objects(text):
            said = [one for name, one in value.items() if _key(name) in wanted]
            if said:
                yield said[-1]
                return

    return find


def _by_pattern(pattern: str) -> Callable[[str], Iterator[Any]]:
    compiled = re.compile(pattern, re.MULTILINE)

    def find(text: str) -> Iterator[Any]:
        for found in compiled.finditer(text):
            inside = found.groupdict().get("verdict") or (found[1] if compiled.groups else found[0])
            yield inside or ""

    return find
