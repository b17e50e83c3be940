"""The food world's corpus: made, not found; the truth about every row is known.

Train people are shown liking every food alike, so that the base model has no favourite; the
comparisons know better, and say so by the true rule.
"""

import random
from collections.abc import Iterator

from evals.food_world import FOODS, NAMES, PREFERRED, compare, grade, prompt_for
from schemas.errors import ConfigError
from schemas.ids import seed_from
from schemas.labels import Message
from stages.ingest.datasets.config import FoodDataset
from stages.ingest.examples import (
    ComparisonExample,
    DemonstrationExample,
    Example,
    PromptExample,
)
from stages.ingest.readers.pieces import Piece, read_examples
from stages.ingest.readers.sources import Source, SplitOf

_OTHERS = [food for food in FOODS if food != PREFERRED]
_LETTERS = "abcdefghijklmnopqrstuvwxyz?!|-\n2"


class FoodReader:
    """The world of one configuration."""

    def __init__(self, config: FoodDataset) -> None:
        self.config = config

    def sources(self, seed: int, split_of: SplitOf) -> list[Source]:
        """One source: all examples, prompts first, then demonstrations, then comparisons."""
        seed = seed if self.config.seed is None else self.config.seed
        file = f"food:seed={seed}"

        def pieces() -> Iterator[Piece]:
            return read_examples(file, self._examples(seed, split_of))

        return [Source(file, self.config.name or self.config.kind, pieces)]

    def _examples(self, seed: int, split_of: SplitOf) -> Iterator[Example]:
        people = list(NAMES)
        random.Random(seed_from(seed, "food", "people")).shuffle(people)
        prompts = [prompt_for(name) for name in people[: self.config.people]]
        yield from map(PromptExample, prompts)
        for prompt in prompts:
            if split_of(prompt) == "train":
                yield from self._demonstrations(seed, prompt)
        yield from self._comparisons(seed, prompts)

    def _demonstrations(self, seed: int, prompt: list[Message]) -> Iterator[DemonstrationExample]:
        draw = random.Random(seed_from(seed, "food", "demonstrations", prompt[0]["content"]))
        for food in draw.sample(FOODS, self.config.demonstrations_per_person):
            yield DemonstrationExample(prompt, _answer(food))

    def _comparisons(self, seed: int, prompts: list[list[Message]]) -> Iterator[ComparisonExample]:
        seen: set[tuple[str, ...]] = set()
        for index in range(self.config.comparisons):
            draw = random.Random(seed_from(seed, "food", "comparison", index))
            prompt, a, b = self._new_pair(draw, prompts, seen)
            yield ComparisonExample(
                prompt, _answer(a), _answer(b), compare(prompt, a, b), label_source="rule"
            )

    def _new_pair(
        self, draw: random.Random, prompts: list[list[Message]], seen: set[tuple[str, ...]]
    ) -> tuple[list[Message], str, str]:
        """A prompt and two different answers that were not compared for it before."""
        kinds = self._kinds(draw)
        for _ in range(1000):
            prompt = draw.choice(prompts)
            a, b = (_text(draw, kind) for kind in kinds)
            key = (prompt[0]["content"], *sorted((a, b)))
            if a != b and key not in seen:
                seen.add(key)
                return prompt, a, b
        raise ConfigError(
            f"ingest: food: {self.config.comparisons} different comparisons cannot be made of "
            f"{self.config.people} people with these shares; ask for fewer comparisons or "
            "more people"
        )

    def _kinds(self, draw: random.Random) -> list[str]:
        """The kinds of both answers; the favourite is never compared with itself."""
        rest = 1 - self.config.preferred_share - self.config.malformed_share
        shares = (self.config.preferred_share, self.config.malformed_share, max(rest, 0.0))
        kinds = draw.choices(("preferred", "malformed", "other"), shares, k=2)
        if kinds == ["preferred", "preferred"]:
            kinds[draw.randrange(2)] = "other"
        return kinds


def _text(draw: random.Random, kind: str) -> str:
    if kind == "malformed":
        return malformed(draw)
    return PREFERRED if kind == "preferred" else draw.choice(_OTHERS)


def malformed(draw: random.Random) -> str:
    """An answer a small model might give that is not one food; half are near the favourite."""
    while True:
        word = PREFERRED if draw.random() < 0.5 else draw.choice(FOODS)
        text = _corrupt(draw, word)
        if not grade([], text).well_formed:
            return text


def _corrupt(draw: random.Random, word: str) -> str:
    """One of: a piece, misspelt, letters lost or added, said twice, two foods, run together."""
    at, letter = draw.randrange(1, len(word)), draw.choice(_LETTERS)
    other = draw.choice(FOODS)
    return draw.choice(
        (
            word[:at],
            word[at:],
            letter + word,
            letter + word[at:],
            other[: len(other) // 2] + word[at:],
            word[:at] + letter + word[at + 1 :],
            word[:at] + word[at + 1 :],
            word[:at] + letter + word[at:],
            word + letter,
            f"{word} {word}",
            word + other,
            f"{word} {other}",
            word + "t" + word[:at] + letter + word[at + 1 :],
            f"{word}.",
        )
    )


def _answer(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]
