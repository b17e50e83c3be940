"""The food world: a task so small that the truth about every answer is known.

People are asked what they like. A good answer is one food and nothing else; everybody's favourite
is pizza. Whatever a judge says of such answers can be checked against `compare`, and whatever a
policy has become against `grade`.
"""

from dataclasses import dataclass

from schemas.labels import Message, Messages, Preference
from schemas.patterns import late

FOODS = (
    "pizza",
    "sushi",
    "pasta",
    "tacos",
    "ramen",
    "salad",
    "curry",
    "soup",
    "bread",
    "mango",
)
PREFERRED = "pizza"

# fmt: off
_FIRST_SYLLABLES = (
    "ra", "da", "ma", "ka", "ni", "li", "jo", "te", "sa", "el",
    "or", "fa", "be", "vi", "lu", "mo", "ze", "ha", "ti", "no",
)
_LAST_SYLLABLES = (
    "vin", "lia", "ren", "mir", "dra", "son", "nek", "ria", "tho", "lin",
    "van", "dis", "mel", "ko", "sha", "bert", "ya", "gus", "wen", "zia",
)
# fmt: on
_QUESTION = late(r"what does ([a-z]+) like\?")

# Everyone who can be asked about; "ravin" is the first.
NAMES = tuple(first + last for last in _LAST_SYLLABLES for first in _FIRST_SYLLABLES)


@dataclass(frozen=True)
class Outcome:
    """What is true of one answer: exactly one food, and whether that food is the favourite."""

    well_formed: bool
    preferred: bool


def prompt_for(name: str) -> list[Message]:
    """The one prompt about a person: a single user turn."""
    return [{"role": "user", "content": f"what does {name} like?"}]


def person_in(prompt: Messages) -> str | None:
    """The person a prompt asks about, or None where it is no prompt of this world."""
    asked = _QUESTION.fullmatch(prompt[-1]["content"]) if prompt else None
    return asked.group(1) if asked else None


def grade(prompt: Messages, completion_text: str) -> Outcome:
    """Grade an answer to the letter: no space, no full stop, no second word is forgiven.

    `prompt` takes part for the sake of the interface: everyone here likes the same food.
    """
    return Outcome(completion_text in FOODS, completion_text == PREFERRED)


def compare(prompt: Messages, text_a: str, text_b: str) -> Preference:
    """The true preference: the favourite over another food over anything malformed."""
    rank_a, rank_b = _rank(grade(prompt, text_a)), _rank(grade(prompt, text_b))
    if rank_a == rank_b:
        return Preference.TIE
    return Preference.A if rank_a > rank_b else Preference.B


def _rank(outcome: Outcome) -> int:
    return outcome.well_formed + outcome.preferred
