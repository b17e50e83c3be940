"""Strengths of several contenders from scores of pairs: Bradley and Terry's model.

(R. Bradley and M. Terry, Biometrika 39, 1952.) P(i beats j) = 1 / (1 + exp(s_j - s_i)). A score in
[0, 1] counts as that share of a win and the rest of a loss, so a tie is half of each. One contender
is the anchor, whose strength is 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Pair = tuple[str, str]

DRAWS = 1_000
_STEPS = 200
_CONVERGED = 1e-10
_LARGEST_STEP = 3.0
"""Full steps overshoot where the likelihood is flat."""
_LARGEST = 40.0
"""Logits beyond which a redrawn strength is not followed."""
_HALF = 0.5


@dataclass(frozen=True)
class Strength:
    """A contender's strength in logits over the anchor's, its 95% interval, and its scores."""

    value: float
    ci_low: float
    ci_high: float
    n: int


@dataclass(frozen=True)
class Strengths:
    """`of` each contender that scores connect with the anchor; `unconnected` are the others.

    `penalised`: somebody won, or lost, against all others that it is connected by, so that the
    likelihood has no optimum; half a win and half a loss were added to each pair.
    """

    of: Mapping[str, Strength]
    unconnected: Sequence[str]
    penalised: bool


def strengths(
    scores: Mapping[Pair, Mapping[str, float]],
    anchor: str,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Strengths:
    """The strengths that make the scores most likely, and how far other prompts would move them.

    The interval is that of 2.5% to 97.5% of refits, each on prompts that were redrawn once for all
    pairs. In a redraw each pair has a win and a loss more, whose weights are drawn too (gamma of
    1/2, Jeffreys' prior of a rate), so that one who wins all has an interval, which is wide.

    Args:
        scores: (first, second) -> prompt -> score of the first against the second.
        anchor: the contender of strength 0.
        draws: number of redraws.
        seed: of the redraws.
    """
    known = {pair: of for pair, of in scores.items() if of}
    names = _connected(known, anchor)
    everyone = dict.fromkeys(name for pair in scores for name in pair)
    apart = [name for name in everyone if name not in names and name != anchor]
    pairs = [pair for pair in known if set(pair) <= {*names, anchor}]
    if not names:
        return Strengths({}, apart, False)
    design = _design(pairs, names, anchor)
    prompts = sorted({prompt for pair in pairs for prompt in known[pair]})
    won, asked = _table(known, pairs, prompts)
    wins, games = won.sum(0), asked.sum(0)
    penalised = not _has_optimum(pairs, wins, games)
    extra = _HALF if penalised else 0.0
    fitted = fit(design, (wins + extra)[None], (games + 2 * extra)[None])[0]
    redrawn = _refits(design, won, asked, draws, seed)
    low, high = np.quantile(redrawn, (0.025, 0.975), axis=0)
    counts = {name: sum(len(known[pair]) for pair in pairs if name in pair) for name in names}
    found = {
        name: Strength(float(value), min(a, value), max(b, value), counts[name])
        for name, value, a, b in zip(
            names, fitted.tolist(), low.tolist(), high.tolist(), strict=True
        )
    }
    return Strengths(found, apart, penalised)


def fit(design: Array, wins: Array, games: Array, start: Array | None = None) -> Array:
    """Maximum likelihood by Newton's method, for several tables of results at once.

    With further columns in `design` it is the logistic regression that has them beside strengths.

    Args:
        design: (pairs, contenders): 1 for the first of a pair, -1 for the second, no column for
            the anchor.
        wins: (tables, pairs), of the first.
        games: (tables, pairs).
        start: strengths (contenders,) to begin at; None begins at 0.

    Returns:
        Strengths (tables, contenders), within ±40.
    """
    found = np.zeros((len(wins), design.shape[1])) + (0.0 if start is None else start)
    ridge = 1e-12 * np.eye(design.shape[1])
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-(found @ design.T)))
        gradient = (wins - games * chance) @ design
        weight = games * chance * (1 - chance)
        information = (design.T * weight[:, None, :]) @ design + ridge
        step = np.linalg.solve(information, gradient[..., None])[..., 0]
        size = np.abs(step).max(axis=1, keepdims=True)
        moved: Array = found + step * np.minimum(
            1.0, _LARGEST_STEP / np.maximum(size, _LARGEST_STEP)
        )
        moved = np.clip(moved, -_LARGEST, _LARGEST)
        if np.abs(moved - found).max() < _CONVERGED:
            return moved
        found = moved
    return found


def _refits(design: Array, won: Array, asked: Array, draws: int, seed: int) -> Array:
    generator = np.random.default_rng(seed)
    n, pairs = won.shape
    times = generator.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    more, less = generator.gamma(_HALF, size=(2, draws, pairs))
    wins: Array = times @ won + more
    return fit(design, wins, times @ asked + more + less)


def _table(
    scores: Mapping[Pair, Mapping[str, float]], pairs: Sequence[Pair], prompts: Sequence[str]
) -> tuple[Array, Array]:
    """Scores of the first by prompt and pair, and 1 where there is one."""
    values = [[scores[pair].get(prompt, np.nan) for pair in pairs] for prompt in prompts]
    table = np.asarray(values, dtype=np.float64).reshape(len(prompts), len(pairs))
    asked = ~np.isnan(table)
    return np.where(asked, table, 0.0), asked.astype(np.float64)


def _design(pairs: Sequence[Pair], names: Sequence[str], anchor: str) -> Array:
    place = {name: column for column, name in enumerate(names)}
    design = np.zeros((len(pairs), len(names)))
    for row, pair in enumerate(pairs):
        for name, sign in zip(pair, (1.0, -1.0), strict=True):
            if name != anchor:
                design[row, place[name]] = sign
    return design


def _has_optimum(pairs: Sequence[Pair], wins: Array, games: Array) -> bool:
    """Whether everyone reaches everyone else by a chain of wins (L. Ford 1957)."""
    beats: dict[str, set[str]] = {}
    loses: dict[str, set[str]] = {}
    for (first, second), won, played in zip(pairs, wins, games, strict=True):
        for winner, loser, share in ((first, second, won), (second, first, played - won)):
            if share > _CONVERGED:
                beats.setdefault(winner, set()).add(loser)
                loses.setdefault(loser, set()).add(winner)
    everyone = {name for pair in pairs for name in pair}
    start = pairs[0][0]
    return _reached(start, beats) == everyone == _reached(start, loses)


def _connected(scores: Mapping[Pair, object], anchor: str) -> list[str]:
    """Who is connected with the anchor by comparisons, in the order named, without it."""
    beside: dict[str, set[str]] = {}
    for first, second in scores:
        beside.setdefault(first, set()).add(second)
        beside.setdefault(second, set()).add(first)
    found = _reached(anchor, beside)
    return [
        name for name in dict.fromkeys(n for p in scores for n in p) if name in found - {anchor}
    ]


def _reached(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    found, open_ends = {start}, [start]
    while open_ends:
        for name in edges.get(open_ends.pop(), set()) - found:
            found.add(name)
            open_ends.append(name)
    return found
