"""Prompts whose answers a program can check: what follows an instruction, and what does not."""

from itertools import combinations

import pytest

from evals.instruction_world import (
    INSTRUCTIONS,
    MAX_PROMPTS,
    compare,
    instructions_in,
    prompts,
    share_followed,
)
from evals.judges.kinds.rule import RULES
from schemas.labels import Message, Preference

# An answer that follows the instruction, and one that does not.
ANSWERS = {
    "change_case:english_lowercase": ("this is plain bread.", "This is plain bread."),
    "change_case:english_capital": ("THIS IS PLAIN BREAD.", "This is plain bread."),
    "punctuation:no_comma": ("It is warm and good.", "It is warm, and good."),
    "length_constraints:number_words": ("Short.", "word " * 40),
    "detectable_format:number_bullet_lists": ("* a\n* b\n* c", "* a\n* b"),
    "detectable_format:title": ("<<Bread>>\nIt rises.", "Bread\nIt rises."),
    "startend:quotation": ('"It rises."', '"It rises.'),
    "keywords:existence": ("It is simple and made today.", "It is made today."),
    "startend:end_checker": ("It rises. That is all.", "That is all. It rises."),
}


def asking(*sentences: str) -> list[Message]:
    return [{"role": "user", "content": " ".join(["Describe bread.", *sentences])}]


@pytest.mark.parametrize("sentence", sorted(INSTRUCTIONS))
def test_each_instruction_is_checked(sentence: str) -> None:
    right, wrong = ANSWERS[INSTRUCTIONS[sentence].id]
    prompt = asking(sentence)
    assert (share_followed(prompt, right), share_followed(prompt, wrong)) == (1.0, 0.0)
    assert compare(prompt, right, wrong) is Preference.A
    assert compare(prompt, wrong, right) is Preference.B
    assert compare(prompt, right, right) is Preference.TIE
    assert share_followed(prompt, " \n") == 0.0


def test_half_of_two_is_half() -> None:
    prompt = asking("Do not use any commas.", "Use less than 40 words.")
    assert share_followed(prompt, "Warm, good.") == 0.5


def test_prompts_are_different_and_say_their_instructions() -> None:
    made = prompts(MAX_PROMPTS, seed=7)
    texts = [prompt[0]["content"] for prompt in made]
    assert len(set(texts)) == MAX_PROMPTS
    assert {len(instructions_in(prompt)) for prompt in made} == {1, 2}
    assert made[:50] == prompts(50, seed=7)
    assert made != prompts(MAX_PROMPTS, seed=8)
    asked = {rule.id for prompt in made for rule in instructions_in(prompt)}
    assert asked == {rule.id for rule in INSTRUCTIONS.values()}


def test_no_sentence_stands_inside_another() -> None:
    assert not any(a in b or b in a for a, b in combinations(INSTRUCTIONS, 2))


def test_the_rule_is_known_by_name() -> None:
    assert RULES["instructions"] is compare
