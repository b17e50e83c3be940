"""Text to tokens where it stands: what follows a prompt is tokenised as it goes on from there."""

from collections.abc import Iterable, Sequence
from functools import cached_property

from transformers import PreTrainedTokenizerBase

_ANCHORS = ("\n", ":", "a", ".")
"""What to go on from where a token would reach over the end of the prompt."""

# Texts this short come again and again: the header of an answer, a judge's label with its end.
_SHORT, _SHORT_KEPT = 64, 1024


class InPlace:
    """Encodes texts that go on from others."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, marks: Iterable[str]) -> None:
        """`marks` are tokens that text is cut at before anything else."""
        self._tokenizer = tokenizer
        self._marks = tuple(marks)
        self._known: dict[str, list[int]] = {}
        self._short: dict[str, list[int]] = {}

    @cached_property
    def begins(self) -> list[int]:
        """The beginning of text, where the tokenizer itself puts one before every text."""
        begin = self._tokenizer.bos_token_id
        if begin is None:
            return []
        ids = self._tokenizer.encode("x")
        return [int(begin)] if ids and ids[0] == begin else []

    def read(self, texts: Iterable[str]) -> None:
        """Tokenise many texts together, for `encode` to find."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            encoded = self._tokenizer(
                new, add_special_tokens=False, return_attention_mask=False, verbose=False
            )
            self._known.update(zip(new, map(list, encoded["input_ids"]), strict=True))

    def forget(self) -> None:
        """Let go of what `read` has kept."""
        self._known.clear()

    def encode(self, text: str) -> list[int]:
        """Token ids of a text on its own, without anything put before or behind."""
        known = self._known.get(text) or self._short.get(text)
        if known is not None:
            return list(known)
        ids = list(self._tokenizer.encode(text, add_special_tokens=False))
        if len(text) <= _SHORT:
            if len(self._short) >= _SHORT_KEPT:
                self._short.clear()
            self._short[text] = ids
        return list(ids)

    def prompt(self, text: str) -> list[int]:
        """Token ids of a prompt, which begins with the beginning of text once."""
        ids = self.encode(text)
        return ids if ids[:1] == self.begins else [*self.begins, *ids]

    def after(self, before: str, text: str) -> list[int]:
        """Token ids of a text where it goes on from another."""
        for anchor in (self.anchor(before), *_ANCHORS):
            head, whole = self.encode(anchor), self.encode(anchor + text)
            if whole[: len(head)] == head:
                return whole[len(head) :]
        return self.encode(text)

    def anchor(self, before: str) -> str:
        """The end of a text, from the last mark on: what stands before it changes no token."""
        at = max((before.rfind(mark) for mark in self._marks), default=-1)
        return before[at:] if at >= 0 else before

    def text(self, before: Sequence[int], ids: Sequence[int]) -> str:
        """The text that tokens spell after others, special tokens included."""
        near = list(before[-8:])
        head = self._decode(near)
        whole = self._decode([*near, *ids])
        return whole[len(head) :] if whole.startswith(head) else self._decode(ids)

    def _decode(self, ids: Sequence[int]) -> str:
        return str(
            self._tokenizer.decode(
                list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )
