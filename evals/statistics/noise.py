"""Where the noise of a win rate comes from: training seed, prompts, sampling, judge order.

Scores of a balanced design, prompts x seeds x samples x orders. Components by the method of moments
from mean squares (Searle, Casella and McCulloch 1992, ch. 4); the interval of a component that is a
difference of two mean squares takes the second as known (Williams 1962 with its Tukey form), which
its many degrees of freedom justify.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evals.statistics.student import Z975, t975

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Component:
    """A standard deviation in points of the score, with its 95% interval.

    Attributes:
        source: what varies.
        value, low, high: of one unit of it: one training, one prompt, one sample, one order.
        n: how many units there were to tell it from.
    """

    source: str
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class NoiseFloor:
    """A gain over several trainings, and what it is to be compared with.

    Attributes:
        rate, low, high: the mean over seeds and prompts, its interval with both as random.
        seeds, prompts: how many.
        rates: of each seed.
        rerun: standard deviation of the rate of one training on the same prompts.
        next_low, next_high: where the rate of one more training would lie, in 95%.
        components: where the noise comes from.
    """

    rate: float
    low: float
    high: float
    seeds: int
    prompts: int
    rates: tuple[float, ...]
    rerun: float
    next_low: float
    next_high: float
    components: tuple[Component, ...]

    @property
    def exceeds_a_rerun(self) -> bool:
        """Whether one more training would lie on the same side of one half, in 95%."""
        return self.next_low > 0.5 or self.next_high < 0.5


def noise_floor(scores: Array) -> NoiseFloor | None:
    """Split the variance of scores (prompts, seeds, samples, orders); None below two of the first.

    A score is 1 where the policy wins, 0 where it loses.
    """
    prompts, seeds, samples, orders = scores.shape
    if prompts < 2 or seeds < 2:
        return None
    cells = scores.mean(axis=(2, 3))
    rates, rate = cells.mean(axis=0), float(cells.mean())
    of_prompts = cells.mean(axis=1)
    ms_seed = prompts * float(np.var(rates, ddof=1))
    ms_prompt = seeds * float(np.var(of_prompts, ddof=1))
    left = cells - of_prompts[:, None] - rates[None, :] + rate
    df_left = (prompts - 1) * (seeds - 1)
    ms_left = float((left**2).sum()) / df_left
    components = [
        _component("training seed", ms_seed, ms_left, seeds - 1, prompts, seeds),
        _component("prompts", ms_prompt, ms_left, prompts - 1, seeds, prompts),
    ]
    ms_order = 0.0
    if orders > 1:
        ms_order = float(np.var(scores, axis=3, ddof=1).mean())
        df = prompts * seeds * samples * (orders - 1)
        components.append(_component("judge order", ms_order, 0.0, df, 1, orders))
    if samples > 1:
        ms_sample = float(np.var(scores.mean(axis=3), axis=2, ddof=1).mean())
        df = prompts * seeds * (samples - 1)
        known = ms_order / orders
        components.append(_component("sampling", ms_sample, known, df, 1, samples))
    rerun = math.sqrt(ms_seed / prompts)
    wide, ahead = (
        _half_width(ms_seed, ms_prompt, prompts, seeds),
        t975(seeds - 1) * rerun * math.sqrt(1 + 1 / seeds),
    )
    return NoiseFloor(
        rate,
        max(0.0, rate - wide),
        min(1.0, rate + wide),
        seeds,
        prompts,
        tuple(map(float, rates)),
        rerun,
        max(0.0, rate - ahead),
        min(1.0, rate + ahead),
        tuple(components),
    )


def _component(source: str, ms: float, rest: float, df: int, units: int, n: int) -> Component:
    """The deviation whose variance is (ms - rest) / units, `ms` having `df` degrees of freedom."""
    low, high = chi_square_quantiles(df)
    variances = [(each - rest) / units for each in (ms, df * ms / high, df * ms / low)]
    value, least, most = (math.sqrt(max(0.0, variance)) for variance in variances)
    return Component(source, value, least, most, n)


def _half_width(ms_seed: float, ms_prompt: float, prompts: int, seeds: int) -> float:
    """Of the mean's interval, seeds and prompts both random.

    Each part is as wide as its own degrees of freedom ask for, and both are added in squares
    (Howe 1974); what both mean squares hold of the rest is counted twice, which widens it.
    """
    of_seeds = t975(seeds - 1) ** 2 * ms_seed
    return math.sqrt((of_seeds + t975(prompts - 1) ** 2 * ms_prompt) / (prompts * seeds))


_MANY = 30


def chi_square_quantiles(df: int) -> tuple[float, float]:
    """The 2.5% and 97.5% quantiles; above 30 degrees of freedom by Wilson and Hilferty."""
    if df <= _MANY:
        return _quantile(df, 0.025), _quantile(df, 0.975)
    spread = 2 / (9 * df)
    low, high = (df * (1 - spread + z * math.sqrt(spread)) ** 3 for z in (-Z975, Z975))
    return low, high


def _quantile(df: int, share: float) -> float:
    low, high = 0.0, 10.0 * df + 20
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _below(df, middle) < share else (low, middle)
    return (low + high) / 2


def _below(df: int, value: float) -> float:
    """P(chi-square < value), by the series of the incomplete gamma function."""
    half, x = df / 2, value / 2
    term = total = 1.0
    step = half
    while term > total * 1e-15:
        step += 1
        term *= x / step
        total += term
    return math.exp(half * math.log(x) - x - math.lgamma(half + 1)) * total if x else 0.0


FEW_SEEDS = 10
"""Below so many the interval of the seed's part is wide, and is said to be."""


def noise_words(noise: Mapping[str, Any] | None) -> Iterator[str]:
    """What repeated trainings say: the mean, what a rerun moves, and where the noise is from."""
    if noise is None:
        return
    seeds = noise["seeds"]
    yield (
        f"over {seeds} trainings: win rate {noise['rate']:.1%} (95% interval {noise['low']:.1%} to "
        f"{noise['high']:.1%}, seeds and prompts both drawn anew)"
    )
    beyond = "exceeds" if noise["exceeds_a_rerun"] else "does not exceed"
    yield (
        f"one more training would lie between {noise['next_low']:.1%} and "
        f"{noise['next_high']:.1%}: the gain {beyond} what a rerun moves"
    )
    parts = [
        f"{one['source']} {100 * one['value']:.1f} ({100 * one['low']:.1f} to "
        f"{100 * one['high']:.1f})"
        for one in noise["components"]
    ]
    yield f"standard deviations in points, with 95% intervals: {'; '.join(parts)}"
    if seeds < FEW_SEEDS:
        seed = noise["components"][0]
        yield (
            f"{seeds} seeds say little: that of the seed may be anything from "
            f"{100 * seed['low']:.1f} to {100 * seed['high']:.1f} points"
        )
