"""Texts as sequences of hashed words: the common ground of near-duplicates and decontamination.

A text is normalised (NFKC, lower case) and cut into words: runs of letters and digits, and every
single character of scripts that write without spaces. A word's hash is a polynomial in its bytes
modulo 2**64, computed for all words of a block at once from prefix sums, then mixed; it depends on
nothing but the word, so it is the same on every machine and in every version.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

_BLOCK_CHARACTERS = 1 << 17
_BASE = 0x9E3779B97F4A7C15
_MODULUS = 1 << 64
# Typography that separates words, beside everything in ASCII that is no letter or digit.
_SEPARATORS = "“”„‘’‚«»‹›–—―…·•、。，．：；！？（）「」『』【】《》\u00a0\u200b\u2028\u2029\ufeff"


@dataclass(frozen=True)
class Words:
    """All words of some texts, one after the other.

    `hashes` [words] uint64; text i has words `offsets[i]` to `offsets[i + 1]` (offsets [texts + 1]
    int64). Runs of words have the same form; hashes may then be shorter.
    """

    hashes: NDArray[Any]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        """How many texts."""
        return len(self.offsets) - 1

    def windows(self, size: int) -> "Words":
        """Hashes of every `size` words in a row; a text of fewer words has none."""
        count = np.maximum(np.diff(self.offsets) - size + 1, 0)
        offsets = np.concatenate(([0], np.cumsum(count)))
        if not len(self.hashes) or not offsets[-1]:
            return Words(np.empty(0, np.uint64), np.zeros(len(count) + 1, np.int64))
        rolled = _rolled(self.hashes, size)
        # Windows that reach into the next text begin in the last size - 1 words of their own.
        inside = np.ones(len(self.hashes), bool)
        for back in range(1, size):
            ends = self.offsets[1:] - back
            inside[ends[ends >= self.offsets[:-1]]] = False
        return Words(rolled[inside[: len(rolled)]], offsets)


def hash_words(texts: Sequence[str] | pl.Series) -> Words:
    """The words of every text, hashed; memory is 8 bytes a word and about 50 a character of a
    block of 131,072 characters.
    """
    hashes, counts = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for block in _blocks(_series(texts)):
        found, offsets = _block_words(block)
        hashes.append(found)
        counts.append(np.diff(offsets))
    return Words(np.concatenate(hashes), np.append(0, np.cumsum(np.concatenate(counts))))


def normalise(texts: Sequence[str] | pl.Series) -> pl.Series:
    """The words of NFKC in lower case, between them ASCII that is neither letter nor digit."""
    lowered = (given := _series(texts)).str.to_lowercase()
    if not len(beyond := _beyond_ascii(lowered)):
        return lowered
    # NFKC costs the most, and most texts that are not ASCII are but for typographic separators.
    spaced = _spaced(lowered.gather(beyond))
    if len(rest := _beyond_ascii(spaced)):
        composed = given.gather(beyond.gather(rest)).str.normalize("NFKC")
        spaced.scatter(rest, _spaced(composed.str.to_lowercase()))
    return lowered.scatter(beyond, spaced)


def _series(texts: Sequence[str] | pl.Series) -> pl.Series:
    return texts if isinstance(texts, pl.Series) else pl.Series("", texts, pl.String)


def _beyond_ascii(texts: pl.Series) -> pl.Series:
    """Which of the texts have other than ASCII characters."""
    return (texts.str.len_bytes() != texts.str.len_chars()).arg_true()


def _spaced(texts: pl.Series) -> pl.Series:
    return texts.str.replace_many(list(_SEPARATORS), [" "] * len(_SEPARATORS))


def split_words(text: str) -> list[str]:
    """The words of one text as text, in the order of their hashes in `hash_words`."""
    data = normalise([text])[0].encode()
    starts, ends = _spans(np.frombuffer(data, np.uint8))
    return [data[s:e].decode() for s, e in zip(starts, ends, strict=True)]


def _blocks(texts: pl.Series) -> Iterator[pl.Series]:
    """Runs of texts of about so many characters as a cache holds the work of."""
    sizes = texts.str.len_bytes().to_numpy().astype(np.int64) + 1
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes) // _BLOCK_CHARACTERS)) + 1
    for first, last in pairwise([0, *cuts.tolist(), len(texts)]):
        if last > first:
            yield texts.slice(first, last - first)


def _block_words(texts: pl.Series) -> tuple["NDArray[np.uint64]", "NDArray[np.int64]"]:
    data, text_ends = _bytes(normalise(texts))
    starts, ends = _spans(data)
    offsets = np.append(0, np.searchsorted(starts, text_ends))
    return _polynomials(data, starts, ends), offsets


def _bytes(texts: pl.Series) -> tuple["NDArray[np.uint8]", "NDArray[np.int64]"]:
    """The UTF-8 bytes of some texts, and where each ends."""
    # A line feed ends every text: no word crosses from one to the next.
    ended = (texts + "\n").rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = ended.buffers()
    ends = np.frombuffer(offsets, np.int64)[ended.offset : ended.offset + len(ended) + 1]
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]], ends[1:] - ends[0]


def _spans(data: NDArray[np.uint8]) -> tuple["NDArray[np.int64]", "NDArray[np.int64]"]:
    """Where words begin and end in UTF-8 bytes."""
    kinds = _byte_kinds()[data]
    in_word = kinds > 0
    begins = in_word.copy()
    begins[1:] &= ~in_word[:-1]
    if (kinds == 2).any():
        begins |= in_word & _beside_alone(data, kinds == 2)
    finishes = in_word.copy()
    finishes[:-1] &= begins[1:] | ~in_word[1:]
    return np.flatnonzero(begins), np.flatnonzero(finishes) + 1


def _beside_alone(data: NDArray[np.uint8], alone: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Lead bytes of characters that are words of their own, and of what follows such a one."""
    leads = (data & 0xC0) != 0x80
    owner = np.maximum.accumulate(np.where(leads, np.arange(len(data)), 0))
    found: NDArray[np.bool_] = np.concatenate(([False], alone[owner[:-1]])) & leads
    return found | alone


def _byte_kinds() -> NDArray[np.uint8]:
    """0 separates words, 1 is part of one, 2 leads a character that is a word of its own."""
    kinds = np.zeros(256, np.uint8)
    for byte in b"0123456789abcdefghijklmnopqrstuvwxyz":
        kinds[byte] = 1
    kinds[0x80:] = 1
    kinds[0xE3:0xEE] = 2  # U+3000 to U+DFFF: kana, ideographs, hangul
    kinds[0xF0:] = 2  # beyond U+FFFF: rarer ideographs, emoji
    return kinds


def _polynomials(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """Mixed polynomial hash of every span: sum of byte_j * base**(end - 1 - j)."""
    size = len(data)
    capacity = 1 << max(size, 1).bit_length()
    falling = _powers(pow(_BASE, -1, _MODULUS), capacity)[:size]
    rising = _powers(_BASE, capacity)
    prefix = np.zeros(size + 1, np.uint64)
    np.cumsum((data + np.uint64(1)) * falling, out=prefix[1:])
    sums = (prefix[ends] - prefix[starts]) * rising[ends - 1]
    return mix(sums + (ends - starts).astype(np.uint64))


@lru_cache(maxsize=4)
def _powers(base: int, count: int) -> NDArray[np.uint64]:
    """base**0, base**1, ... modulo 2**64, by doubling."""
    powers = np.ones(count, np.uint64)
    have = 1
    while have < count:
        step = np.uint64(pow(base, have, _MODULUS))
        more = min(have, count - have)
        powers[have : have + more] = powers[:more] * step
        have += more
    return powers


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit depends on every bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _rolled(hashes: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """One hash for every `size` hashes in a row, order mattering."""
    count = max(len(hashes) - size + 1, 0)
    total = np.zeros(count, np.uint64)
    for place in range(size):
        total = total * np.uint64(_BASE) + hashes[place : place + count]
    return mix(total)
