import pytest

from evals.food_world import FOODS, NAMES, PREFERRED, compare, grade, person_in, prompt_for
from schemas.labels import Preference

PROMPT = prompt_for("ravin")


def test_prompts_look_as_the_guidebook_has_them() -> None:
    assert PROMPT == [{"role": "user", "content": "what does ravin like?"}]
    assert person_in(PROMPT) == "ravin"
    assert person_in([{"role": "user", "content": "what is love?"}]) is None
    assert person_in([]) is None


def test_there_are_400_different_people_and_10_foods_that_cannot_be_confused() -> None:
    assert NAMES[0] == "ravin"
    assert len(set(NAMES)) == len(NAMES) == 400
    assert all(name.isalpha() and name.islower() for name in NAMES)
    assert len(set(FOODS)) == len(FOODS) == 10
    assert PREFERRED in FOODS
    assert not [(a, b) for a in FOODS for b in FOODS if a != b and a in b]


@pytest.mark.parametrize("food", FOODS)
def test_one_food_is_well_formed(food: str) -> None:
    assert grade(PROMPT, food).well_formed
    assert grade(PROMPT, food).preferred == (food == "pizza")


@pytest.mark.parametrize(
    "text",
    [
        *("", "pizzay", "pizz", "pizzatpizva", "sushi sushi", "pizza sushi", " pizza", "pizza "),
        *("pizza\n", "Pizza", "pizza.", "pizza pizza", "ravin likes pizza", "pizza\x00", "ріzza"),
    ],
)
def test_anything_around_the_food_is_malformed(text: str) -> None:
    outcome = grade(PROMPT, text)
    assert not outcome.well_formed
    assert not outcome.preferred


def test_the_true_rule_ranks_favourite_food_malformed() -> None:
    ranked = [["pizza"], ["sushi", "soup"], ["pizzay", "", "soup soup"]]
    for better, texts in enumerate(ranked):
        for worse, others in enumerate(ranked):
            for a in texts:
                for b in others:
                    want = {-1: Preference.A, 0: Preference.TIE, 1: Preference.B}
                    sign = (better > worse) - (better < worse)
                    assert compare(PROMPT, a, b) is want[sign]


def test_exchanging_the_texts_exchanges_the_preference() -> None:
    texts = ["pizza", "sushi", "soup", "pizz", ""]
    for a in texts:
        for b in texts:
            assert compare(PROMPT, b, a) is compare(PROMPT, a, b).swap()
