"""From the ratings of two completions to the verdict that follows from them."""

from collections.abc import Mapping

from schemas.ids import canonical_messages, content_id
from schemas.labels import (
    Comparison,
    CriterionScore,
    LabelProbabilities,
    Preference,
    Rated,
    Rating,
    Unscored,
    Verdict,
)

Opinion = Rating | Unscored

_ROUNDING = 1e-9


def sides_of(comparison: Comparison) -> tuple[Comparison, Comparison]:
    """Either completion alone, under the id of its rating: the same question has the same one."""
    one = _alone(comparison)
    return one, _alone(comparison.swap())


def _alone(comparison: Comparison) -> Comparison:
    prompt, completion = comparison.prompt, comparison.completion_a
    reference = comparison.reference
    key = content_id(
        "rating",
        canonical_messages(prompt),
        canonical_messages(completion),
        *([reference] if reference else []),
    )
    return Comparison(key, comparison.prompt_id, prompt, completion, (), reference)


def verdict_of(
    keys: tuple[str, str],
    opinions: tuple[Opinion, Opinion],
    within: float,
    weights: Mapping[str, float],
) -> Verdict:
    """The completion with the higher rating is the better one.

    Args:
        keys: ids of the ratings of A and B.
        opinions: the ratings, or why there is none: the comparison is unscored for that reason.
        within: ratings that differ by at most this are a tie; also those of each criterion.
        weights: by criterion; none where there is one rating for all.
    """
    a, b = opinions
    rated = tuple(
        Rated(key, one.prompt_tokens, one.completion_tokens)
        for key, one in zip(keys, opinions, strict=True)
    )
    raw = f"A: {a.raw}\n\nB: {b.raw}"
    if isinstance(a, Unscored) or isinstance(b, Unscored):
        return _unscored(a, b, rated, raw)
    label = _ahead(a.overall, b.overall, within)
    return LabelProbabilities(
        p_a=float(label is Preference.A),
        p_b=float(label is Preference.B),
        p_tie=float(label is Preference.TIE),
        raw=raw,
        criteria=_criteria(a.aspects, b.aspects, within, weights),
        rating_a=a.overall,
        rating_b=b.overall,
        rated=rated,
    )


def _unscored(a: Opinion, b: Opinion, rated: tuple[Rated, ...], raw: str) -> Unscored:
    failed = {side: one for side, one in (("A", a), ("B", b)) if isinstance(one, Unscored)}
    reasons = [one.reason for one in failed.values()]
    said = "; ".join(f"{side}: {one.detail or one.reason}" for side, one in failed.items())
    return Unscored(
        reasons[0],
        said,
        raw=raw,
        rating_a=a.overall if isinstance(a, Rating) else None,
        rating_b=b.overall if isinstance(b, Rating) else None,
        rated=rated,
    )


def _ahead(a: float, b: float, within: float) -> Preference:
    if abs(a - b) <= within + _ROUNDING:
        return Preference.TIE
    return Preference.A if a > b else Preference.B


_SCORES = {Preference.A: 1.0, Preference.B: 0.0, Preference.TIE: 0.5}


def _criteria(
    a: Mapping[str, int], b: Mapping[str, int], within: float, weights: Mapping[str, float]
) -> tuple[CriterionScore, ...]:
    return tuple(
        CriterionScore(name, weight, _SCORES[_ahead(a[name], b[name], within)], a[name], b[name])
        for name, weight in weights.items()
    )
