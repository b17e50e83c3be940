import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.judges.resolution import Resolution, resolve
from schemas.labels import LabelProbabilities, Preference, Unscored, Verdict
from tests.fixtures.comparisons import leaning

A, B, TIE = Preference.A, Preference.B, Preference.TIE


@st.composite
def answers(draw: st.DrawFn) -> Verdict:
    if draw(st.integers(0, 5)) == 0:
        return Unscored(draw(st.sampled_from(["low_label_mass", "prompt_too_long"])))
    p_tie = draw(st.sampled_from([0.0, 0.25, 0.5, 1.0]))
    share = draw(st.sampled_from([0.0, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0]))
    return LabelProbabilities(p_a=(1 - p_tie) * share, p_b=(1 - p_tie) * (1 - share), p_tie=p_tie)


def swap(verdict: Verdict) -> Verdict:
    return verdict if isinstance(verdict, Unscored) else verdict.swap()


@pytest.mark.parametrize(
    ("ab", "ba", "expected"),
    [
        (leaning(0.75), leaning(0.25), Resolution(A, 0.5)),
        (leaning(-0.75), leaning(-0.25), Resolution(B, 0.5)),
        (leaning(0.125), leaning(0.0625), Resolution(None, 0.09375, "low_margin")),
        (leaning(1), leaning(-1), Resolution(None, 0, "inconsistent")),
        (leaning(1), leaning(-0.25), Resolution(None, 0.375, "inconsistent")),
        (leaning(1), leaning(0), Resolution(None, 0.5, "inconsistent")),
        (leaning(0, tie=1), leaning(0, tie=1), Resolution(TIE, 0, "tie")),
        (leaning(0.125, tie=0.75), leaning(0, tie=1), Resolution(TIE, 0.0625, "tie")),
        (leaning(1), Unscored("low_label_mass"), Resolution(None, None, "unscored_low_label_mass")),
        (Unscored("b"), Unscored("a"), Resolution(None, None, "unscored_a")),
    ],
)
def test_resolution_by_hand(ab: Verdict, ba: Verdict, expected: Resolution) -> None:
    assert resolve(ab, ba, min_margin=0.1) == expected


@given(answers(), answers(), st.sampled_from([0.0, 0.1, 0.5]))
def test_exchanging_the_sides_exchanges_the_label_and_nothing_else(
    ab: Verdict, ba: Verdict, min_margin: float
) -> None:
    found = resolve(ab, ba, min_margin)
    # The exchanged comparison shown in order ab is the original one shown in order ba.
    exchanged = resolve(swap(ba), swap(ab), min_margin)
    assert exchanged.reason == found.reason
    assert exchanged.margin == found.margin
    assert exchanged.label == (found.label.swap() if found.label else None)


@given(answers(), answers())
def test_exactly_what_is_usable_names_a_side(ab: Verdict, ba: Verdict) -> None:
    found = resolve(ab, ba, 0.1)
    assert found.usable == (found.label in (A, B))
    assert (found.reason is None) == found.usable
