"""Arena-Hard's scores by hand, its style features, and style control against a made-up effect."""

import math

import numpy as np
import pytest

from evals.files.standards.arena_scores import Battles, arena_scores, outcomes_of
from evals.files.standards.style import counts_of, difference, published_counts


def test_a_clear_verdict_counts_three_times_in_every_spelling() -> None:
    assert outcomes_of("A>>B") == outcomes_of("B<<A") == (1.0, 1.0, 1.0)
    assert outcomes_of("A>B") == outcomes_of("B<A") == (1.0,)
    assert outcomes_of("A=B") == outcomes_of("B=A") == (0.5,)
    assert outcomes_of("B>A") == outcomes_of("A<B") == (0.0,)
    assert outcomes_of("B>>A") == outcomes_of("A<<B") == (0.0, 0.0, 0.0)
    assert outcomes_of("A>") is None
    assert outcomes_of("") is None


def test_a_score_is_the_mean_outcome_and_its_interval_is_of_redraws() -> None:
    """One clear win, one slight win, a tie and a slight loss: (3 + 1 + 0.5 + 0) / 6."""
    battles = [Battles("m", "c", (1.0, 1.0, 1.0, 0.0)), Battles("m", "c", (1.0, 0.5))]
    [found] = arena_scores(battles)
    assert found.score == pytest.approx(4.5 / 6)
    assert (found.model, found.of, found.n) == ("m", "c", 2)
    assert found.ci_low is not None
    assert found.ci_high is not None
    assert 0.3 < found.ci_low < found.score < found.ci_high <= 1
    assert found.style_controlled is None


def test_the_interval_is_five_to_ninety_five_percent() -> None:
    """400 outcomes at one half: 1.645 errors of 0.025 each way."""
    [found] = arena_scores([Battles("m", "c", (1.0, 0.0))] * 200)
    assert found.ci_low == pytest.approx(0.5 - 1.645 * 0.025, abs=0.012)
    assert found.ci_high == pytest.approx(0.5 + 1.645 * 0.025, abs=0.012)
    assert arena_scores([Battles("m", "c", (1.0, 0.0))] * 200) == [found]


def test_style_is_counted_outside_of_code() -> None:
    text = "# Title\n\n- one\n* two\n 3. three\n\n**bold** and __more__\n"
    text += "```py\n# no header\n- no\n```\n"
    tokens, headers, lists, bold = counts_of(text)
    assert (headers, lists, bold) == (1, 3, 2)
    assert tokens > 20
    metadata = {
        "token_len": 20,
        "header_count": {"h1": 1, "h2": 2},
        "list_count": {"ordered": 0, "unordered": 4},
        "bold_count": {"**": 1, "__": 0},
    }
    assert published_counts(metadata) == (20, 3, 4, 1)
    assert published_counts({"token_len": 3}) is None


def test_differences_in_style_by_hand() -> None:
    one, other = (29.0, 3.0, 0.0, 6.0), (9.0, 0.0, 1.0, 6.0)
    # (29 - 9) / 38; densities 0.1 and 0; 0 and 0.1; 0.2 and 0.6.
    assert difference(one, other) == pytest.approx((20 / 38, 0.1 / 1.1, -0.1 / 1.1, -0.4 / 1.8))
    assert difference((0.0,) * 4, (0.0,) * 4) == (0, 0, 0, 0)


def test_what_a_judge_gives_for_length_is_taken_out() -> None:
    """Two equal models, of which one writes more, and a judge that likes length."""
    generator = np.random.default_rng(5)
    battles = []
    for model, longer in (("short", -0.4), ("long", 0.4)):
        for length in longer + generator.normal(0, 0.3, 700):
            chance = 1 / (1 + math.exp(-2.5 * length))
            outcomes = tuple(float(x) for x in generator.random(2) < chance)
            style = (float(length), *generator.normal(0, 0.01, 3).tolist())
            battles.append(Battles(model, "c", outcomes, style))
    long, short = arena_scores(battles)
    assert (long.model, short.model) == ("long", "short")
    assert long.score > 0.65
    assert short.score < 0.35
    for one in (long, short):
        assert one.style_controlled == pytest.approx(0.5, abs=0.04)
        assert one.even_style == pytest.approx(0.5, abs=0.04)
        assert one.style_low is not None
        assert one.style_high is not None
        assert one.style_low < 0.5 < one.style_high
    assert long.style_effects["length"] == pytest.approx(2.5 * np.std([0.5, -0.3]), rel=0.25)
    assert abs(long.style_effects["bold"]) < 0.2


def test_style_control_is_the_maximum_of_the_likelihood_for_one_model() -> None:
    """Of one model without spread in style but in length; by hand from the two groups.

    At length -1 a quarter is won, at +1 three quarters: the line goes through logits -1.0986 and
    +1.0986, and its middle is one half.
    """
    battles = [
        Battles("m", "c", (1.0, 0.0, 0.0, 0.0), (-1.0, 0.0, 0.0, 0.0)),
        Battles("m", "c", (1.0, 1.0, 1.0, 0.0), (1.0, 0.0, 0.0, 0.0)),
    ] * 60
    [found] = arena_scores(battles)
    assert found.style_controlled == pytest.approx(0.5, abs=0.02)
    assert found.style_effects["length"] == pytest.approx(math.log(3), abs=0.06)
    assert found.style_effects["headers"] == 0


def test_one_who_wins_all_has_no_style_controlled_score_and_others_keep_theirs() -> None:
    generator = np.random.default_rng(2)
    styles = generator.normal(0, 0.3, (80, 4)).tolist()
    battles = [Battles("all", "c", (1.0, 1.0), style) for style in styles]
    battles += [Battles("some", "c", (1.0, 0.0), style) for style in styles]
    every, some = arena_scores(battles)
    assert every.score == 1
    assert every.style_controlled is None
    assert some.style_controlled == pytest.approx(0.5, abs=0.1)


def test_too_few_rows_have_no_style_control() -> None:
    [found] = arena_scores([Battles("m", "c", (1.0, 0.0), (0.1, 0.2, 0.3, 0.4))])
    assert found.style_controlled is None
