"""MT-Bench's scores from a run's own verdicts (L. Zheng et al., arXiv 2306.05685).

Its own score is the mean of ratings from 1 to 10 of single answers, over both turns; where pairs
are judged, a win in both orders wins, and all else is a tie.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.judges.ratings.charging import answers_of
from evals.statistics.estimates import estimate_mean
from evals.win_rate.criteria import mean_rating
from schemas.results.win_rates import ScoreScale, StandardScore

Row = Mapping[str, Any]
BASELINE = "baseline"


@dataclass(frozen=True)
class _Rated:
    """One answer's rating: its question, its turn from 1, and its question's category."""

    question: str
    turn: int
    category: str | None
    rating: float


def rating_scores(
    matches: Sequence[tuple[str, Sequence[Row], Sequence[Row]]], turns: Mapping[str, int]
) -> Iterator[StandardScore]:
    """Every model's mean rating, the baseline's too: over both turns, by turn and by category.

    Nothing where the judge does not rate.

    Args:
        matches: each model, its comparisons with the baseline, it being A, and the verdicts.
        turns: prompt_id -> number of the turn from 0.
    """
    of_models: dict[str, dict[str, _Rated]] = defaultdict(dict)
    for model, comparisons, verdicts in matches:
        said = {row["comparison_id"]: row for row in answers_of(verdicts)}
        for row in comparisons:
            verdict = said.get(row["comparison_id"], {})
            for name, side in ((model, "a"), (BASELINE, "b")):
                if (rating := verdict.get(f"rating_{side}")) is not None:
                    turn = turns.get(row["prompt_id"], 0) + 1
                    one = _Rated(str(row["row"]), turn, row["category"], rating)
                    of_models[name][row[f"completion_{side}_id"]] = one
    for model, answers in sorted(of_models.items()):
        yield from _of_model(model, answers)


def _of_model(model: str, answers: Mapping[str, _Rated]) -> Iterator[StandardScore]:
    parts: dict[str, dict[str, _Rated]] = defaultdict(dict)
    for key, one in answers.items():
        parts[f"rating, turn {one.turn}"][key] = one
    if len(parts) > 1:
        parts["rating, both turns"] = dict(answers)
    for key, one in answers.items():
        if one.category:
            parts[f"rating, {one.category}"][key] = one
    for of, part in sorted(parts.items()):
        questions = {key: one.question for key, one in part.items()}
        ratings = {key: one.rating for key, one in part.items()}
        yield mean_score(model, of, ratings, questions, "rating")


def pair_scores(
    model: str,
    judged: Iterator[tuple[Row, tuple[Row, Row]]],
    turns: Mapping[str, int],
) -> Iterator[StandardScore]:
    """The win rate of one model by turn, and over both with turns of one question together.

    Args:
        model: whose.
        judged: comparisons with their verdicts in both orders.
        turns: prompt_id -> number of the turn from 0.
    """
    scores: dict[str, float] = {}
    questions: dict[str, str] = {}
    by_turn: dict[int, dict[str, float]] = defaultdict(dict)
    for comparison, (ab, ba) in judged:
        key, prompt = comparison["comparison_id"], comparison["prompt_id"]
        same = ab["verdict"] if ab["verdict"] == ba["verdict"] else "Tie"
        scores[key] = {"A": 1.0, "B": 0.0}.get(same, 0.5)
        questions[key] = str(comparison["row"])
        by_turn[turns.get(prompt, 0) + 1][key] = scores[key]
    for turn, found in sorted(by_turn.items()):
        yield mean_score(model, f"turn {turn}", found, questions)
    if len(by_turn) > 1:
        yield mean_score(model, "both turns", scores, questions)


def mean_score(
    model: str,
    of: str,
    values: Mapping[str, float],
    questions: Mapping[str, str],
    scale: ScoreScale = "rate",
) -> StandardScore:
    """The mean with our 95% interval; turns of one question belong together."""
    take = mean_rating if scale == "rating" else estimate_mean
    found = take(values, questions)
    return StandardScore(
        model=model,
        of=of,
        scale=scale,
        score=found.value or 0.0,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        n=len({questions.get(key, key) for key in values}),
    )
