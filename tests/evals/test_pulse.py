"""Beats reach those who listen, in their units."""

from evals.pulse import beat, heard_by, scaled


def test_every_listener_hears_in_its_own_units() -> None:
    outer: list[float] = []
    inner: list[float] = []
    beat()  # nobody listens
    with heard_by(outer.append), scaled(2):
        beat(3)
        with heard_by(inner.append):
            beat()
            with scaled(0.5):
                beat()
    beat()
    assert outer == [6, 2, 1]
    assert inner == [1, 0.5]
