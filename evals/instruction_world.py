"""The world of verifiable instructions: prompts whose answers a program can check.

A prompt is a task about a subject with one or two instructions, each a fixed sentence that stands
for one of IFEval's rules (`evals.benchmarks.instruction_following`). So the truth about any answer
is known, and what is learned on some prompts can be measured on others.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evals.benchmarks.instruction_following import follows
from schemas.ids import seed_from
from schemas.labels import Message, Messages, Preference

TASKS = (
    "Describe {}.",
    "Explain {} to a child.",
    "Write a short note about {}.",
    "Give some reasons to like {}.",
    "Tell a short story about {}.",
    "Say what beginners get wrong about {}.",
)

SUBJECTS = (
    "bread",
    "rain",
    "chess",
    "a garden",
    "the moon",
    "bicycles",
    "a library",
    "cheese",
    "trains",
    "winter",
    "the sea",
    "a good map",
    "honey",
    "owls",
    "clocks",
    "tea",
    "mountains",
    "a market",
    "soap",
    "bridges",
    "volcanoes",
    "paper",
    "a violin",
    "the heart",
    "ants",
    "windmills",
    "salt",
    "a kite",
    "rivers",
    "shoes",
    "glass",
    "sleep",
    "maps of cities",
    "lighthouses",
    "apples",
    "snow",
    "a campfire",
    "whales",
    "the alphabet",
    "umbrellas",
    "bees",
    "castles",
    "swimming",
    "a telescope",
    "spices",
    "friendship",
    "old coins",
    "thunder",
    "a bakery",
    "horses",
    "numbers",
    "islands",
    "pottery",
    "a diary",
    "stars",
    "football",
    "a ship",
    "butterflies",
    "the post office",
    "music",
)


@dataclass(frozen=True)
class Instruction:
    """One of IFEval's rules with its arguments."""

    id: str
    kwargs: Mapping[str, Any]


INSTRUCTIONS: Mapping[str, Instruction] = {
    "Write in English and in lowercase letters only.": Instruction(
        "change_case:english_lowercase", {}
    ),
    "Write in English and in capital letters only.": Instruction("change_case:english_capital", {}),
    "Do not use any commas.": Instruction("punctuation:no_comma", {}),
    "Use less than 40 words.": Instruction(
        "length_constraints:number_words", {"num_words": 40, "relation": "less than"}
    ),
    "Answer with exactly 3 bullet points that begin with an asterisk, such as: * like this.": (
        Instruction("detectable_format:number_bullet_lists", {"num_bullets": 3})
    ),
    "Begin with a title in double angular brackets, such as <<a title>>.": Instruction(
        "detectable_format:title", {}
    ),
    "Put your whole answer in double quotation marks.": Instruction("startend:quotation", {}),
    "Include the words today and simple.": Instruction(
        "keywords:existence", {"keywords": ["today", "simple"]}
    ),
    "End with exactly these words: That is all.": Instruction(
        "startend:end_checker", {"end_phrase": "That is all."}
    ),
}
"""The sentence that stands in a prompt, and the rule that it stands for."""

# Instructions that no answer can follow together.
_EXCLUSIVE = (
    {"change_case:english_lowercase", "change_case:english_capital"},
    {"change_case:english_lowercase", "startend:end_checker"},
    {"change_case:english_capital", "startend:end_checker"},
    {"change_case:english_capital", "keywords:existence"},
    {"startend:quotation", "startend:end_checker"},
    {"startend:quotation", "detectable_format:title"},
    {"startend:quotation", "detectable_format:number_bullet_lists"},
)


def prompts(count: int, seed: int) -> list[list[Message]]:
    """Different prompts, each a single user turn.

    Args:
        count: how many, at most one for each task and subject.
        seed: of the order, and of the instructions.
    """
    asked = [task.format(subject) for task in TASKS for subject in SUBJECTS]
    random.Random(seed_from(seed, "instructions", "order")).shuffle(asked)
    return [[{"role": "user", "content": _with_instructions(q, seed)}] for q in asked[:count]]


MAX_PROMPTS = len(TASKS) * len(SUBJECTS)


def _with_instructions(question: str, seed: int) -> str:
    draw = random.Random(seed_from(seed, "instructions", question))
    first, *others = draw.sample(sorted(INSTRUCTIONS), len(INSTRUCTIONS))
    sentences = [first]
    if draw.random() < 0.5:
        sentences += [text for text in others if _go_together(first, text)][:1]
    return " ".join([question, *sentences])


def _go_together(first: str, second: str) -> bool:
    ids = {INSTRUCTIONS[first].id, INSTRUCTIONS[second].id}
    return not any(ids <= excluded for excluded in _EXCLUSIVE)


def instructions_in(prompt: Messages) -> list[Instruction]:
    """The instructions of a prompt's last turn; none where it is no prompt of this world."""
    text = (prompt[-1]["content"] or "") if prompt else ""
    return [rule for sentence, rule in INSTRUCTIONS.items() if sentence in text]


def share_followed(prompt: Messages, text: str) -> float:
    """The share in [0, 1] of a prompt's instructions that an answer follows; 0 for an empty one.

    Raises:
        ConfigError: the checkers' package is not installed.
    """
    rules = instructions_in(prompt)
    if not rules or not text.strip():
        return 0.0
    row = {
        "key": 0,
        "prompt": prompt[-1]["content"],
        "instruction_id_list": [rule.id for rule in rules],
        "kwargs": [dict(rule.kwargs) for rule in rules],
    }
    return follows(row, text)["instruction_strict"]


def compare(prompt: Messages, text_a: str, text_b: str) -> Preference:
    """The answer that follows more of the prompt's instructions; as many is a tie."""
    a, b = share_followed(prompt, text_a), share_followed(prompt, text_b)
    return Preference.TIE if a == b else Preference.A if a > b else Preference.B
