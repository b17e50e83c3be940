"""Rates and times left are those of the last while, by whatever clock."""

import pytest

from pipeline.display.pace import Pace, duration, pace_words


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def paced(total: int | None = 1000) -> tuple[Pace, Clock]:
    clock = Clock()
    return Pace(total, clock), clock


def test_the_first_unit_gives_a_rate() -> None:
    pace, clock = paced()
    assert (pace.rate(), pace.left()) == (None, None)
    clock.time += 2
    pace.under_way(0.5)
    assert pace.rate() == pytest.approx(0.25)
    assert pace.left() == pytest.approx(999.5 / 0.25)


def test_what_was_there_before_says_nothing_about_speed() -> None:
    pace, clock = paced()
    pace.advance(500)
    assert pace.rate() is None
    clock.time += 10
    pace.advance(10)
    assert pace.rate() == pytest.approx(1.0)
    assert pace.left() == pytest.approx(490)


def test_a_slow_start_is_forgotten() -> None:
    """600 seconds for the first unit (a model is loaded), then one a second."""
    pace, clock = paced()
    clock.time += 600
    pace.advance()
    for _ in range(40):
        clock.time += 1
        pace.advance()
    assert pace.rate() == pytest.approx(1.0)


def test_work_that_comes_in_heaps_has_its_mean_rate() -> None:
    """100 units every 300 seconds: at any moment a third of a unit a second, about."""
    pace, clock = paced(None)
    for _ in range(10):
        clock.time += 300
        pace.advance(100)
    clock.time += 150
    assert pace.rate() == pytest.approx(1 / 3, rel=0.01)


def test_silence_lowers_the_rate_and_prolongs_the_rest() -> None:
    pace, clock = paced()
    for _ in range(10):
        clock.time += 1
        pace.advance(10)
    left = pace.left()
    clock.time += 60
    assert left is not None
    assert (pace.left() or 0) > 5 * left


def test_under_way_is_done_once() -> None:
    pace, clock = paced(10)
    clock.time += 1
    for _ in range(4):
        pace.under_way(1)
    assert (pace.amount, pace.done) == (4, 0)
    pace.advance(4)
    assert (pace.amount, pace.done) == (4, 4)
    pace.under_way(100)
    assert pace.amount == 10
    assert pace.left() is None


def test_words() -> None:
    pace, clock = paced(100)
    assert pace_words(pace) == ""
    clock.time += 10
    pace.advance(50)
    assert pace_words(pace) == "5.0/s, 10 s left"
    assert [duration(s) for s in (3, 600, 20_000)] == ["3 s", "10 min", "5.6 h"]
