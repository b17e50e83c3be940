"""Completions that are longer than a judge can read, cut to fit, in the open."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from schemas.conversations import thought_and_answer
from schemas.labels import Comparison, Message, Messages

CUT_MARK = "[... the rest is too long to be shown]"
"""Stands in a completion where it was cut."""

CUT_NOTE = " (completions cut to fit)"
"""Stands after what a judge has said of such a comparison, in the column `raw`."""

_ATTEMPTS = 6


@dataclass(frozen=True)
class Fitting:
    """Cuts comparisons to `limit` tokens; `prompt_ids` gives those of a comparison as shown."""

    tokenizer: PreTrainedTokenizerBase
    prompt_ids: Callable[[Comparison], list[int]]
    limit: int

    def cut(self, comparison: Comparison, tokens: int) -> list[int] | None:
        """The tokens of what `cut_comparison` gives."""
        found = self.cut_comparison(comparison, tokens)
        return None if found is None else self.prompt_ids(found)

    def cut_comparison(self, comparison: Comparison, tokens: int) -> Comparison | None:
        """The comparison with its longer completions cut at their ends.

        Both are cut to one length, the shorter one only where it is longer than that: a judge sees
        as much of one as of the other. None where the prompt alone leaves no room.

        Args:
            comparison: one that is too long.
            tokens: how many it has.
        """
        sides = [comparison.completion_a, comparison.completion_b]
        lengths = [token_length(self.tokenizer, side) for side in sides]
        room = self.limit - (tokens - sum(lengths))
        for _ in range(_ATTEMPTS):
            most = _level(lengths, room)
            if most < 1:
                return None  # the prompt alone leaves no room
            a, b = (
                side if length <= most else shortened(self.tokenizer, side, most)
                for side, length in zip(sides, lengths, strict=True)
            )
            shown = replace(comparison, completion_a=a, completion_b=b)
            over = len(self.prompt_ids(shown)) - self.limit
            if over <= 0:
                return shown
            room -= over
        return None


def shortened(tokenizer: PreTrainedTokenizerBase, completion: Messages, most: int) -> list[Message]:
    """The first `most` tokens of a completion's turns, and a mark where it was cut."""
    kept: list[Message] = []
    for message in completion:
        thought, said = thought_and_answer(message)
        ids = list(tokenizer.encode(said, add_special_tokens=False))
        if len(ids) > most:
            text = str(tokenizer.decode(ids[:most])) + f"\n{CUT_MARK}"
            return [*kept, {**message, "content": text, "reasoning": thought}]
        kept.append(message)
        most -= len(ids)
    return kept


def token_length(tokenizer: PreTrainedTokenizerBase, completion: Messages) -> int:
    """Tokens of the texts of a completion's turns, thoughts left out."""
    texts = (thought_and_answer(m)[1] for m in completion)
    return sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts)


def _level(lengths: Sequence[int], room: int) -> int:
    """The one length to which both can be cut so that together they have `room`."""
    short = min(lengths)
    return room - short if short <= room // 2 else room // 2


def cut_warning(count: int, limit: int) -> list[str]:
    """What to say of comparisons that were cut."""
    if not count:
        return []
    return [
        f"{count:,} comparisons were longer than the {limit:,} tokens that the judge reads: their "
        'longer completions were cut (overlong = "unscored" leaves them out)'
    ]
