"""Texts as sequences of hashed words: the common ground of near-duplicates and decontamination.

A text is normalised (NFKC, lower case) and cut into words: runs of letters and digits, and every
single character of scripts that write without spaces. A word's hash is a polynomial in its bytes
modulo 2**64, computed for all words of a block at once from prefix sums, then mixed; it depends on
nothing but the word, so it is the same on every machine and in every version.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK_CHARACTERS = 1 << 20
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

    hashes: "NDArray[Any]"
    offsets: "NDArray[np.int64]"

    def __len__(self) -> int:
        """How many texts."""
        return len(self.offsets) - 1

    def windows(self, size: int) -> "Words":
        """Hashes of every `size` words in a row; a text of fewer words has none."""
        import numpy as np

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


def hash_words(texts: Sequence[str]) -> Words:
    """The words of every text, hashed; memory is 8 bytes a word and about 30 a character of a
    block of a million characters.
    """
    import numpy as np

    hashes, counts = [], []
    for block in _blocks(texts):
        found, offsets = _block_words(block)
        hashes.append(found)
        counts.append(np.diff(offsets))
    joined = np.concatenate(hashes) if hashes else np.empty(0, np.uint64)
    per_text = np.concatenate(counts) if counts else np.empty(0, np.int64)
    return Words(joined, np.concatenate(([0], np.cumsum(per_text))).astype(np.int64))


def normalise(texts: Sequence[str]) -> list[str]:
    """NFKC, lower case, typographic separators as spaces."""
    import polars as pl

    lowered = pl.Series(texts, dtype=pl.String).str.normalize("NFKC").str.to_lowercase()
    spaced = lowered.str.replace_many(list(_SEPARATORS), [" "] * len(_SEPARATORS))
    return spaced.to_list()


def split_words(text: str) -> list[str]:
    """The words of one text as text, in the order of their hashes in `hash_words`."""
    import numpy as np

    data = normalise([text])[0].encode()
    starts, ends = _spans(np.frombuffer(data, np.uint8))
    return [data[s:e].decode() for s, e in zip(starts, ends, strict=True)]


def _blocks(texts: Sequence[str]) -> list[Sequence[str]]:
    """Runs of texts of about a million characters."""
    blocks, start, size = [], 0, 0
    for index, text in enumerate(texts):
        size += len(text) + 1
        if size >= _BLOCK_CHARACTERS:
            blocks.append(texts[start : index + 1])
            start, size = index + 1, 0
    return [*blocks, texts[start:]] if start < len(texts) else blocks


def _block_words(texts: Sequence[str]) -> tuple["NDArray[np.uint64]", "NDArray[np.int64]"]:
    import numpy as np

    # A line feed ends every text: no word crosses from one to the next.
    encoded = [text.encode() for text in normalise(texts)]
    data = np.frombuffer(b"\n".join([*encoded, b""]), np.uint8)
    text_ends = np.cumsum([len(text) + 1 for text in encoded])
    starts, ends = _spans(data)
    offsets = np.concatenate(([0], np.searchsorted(starts, text_ends)))
    return _polynomials(data, starts, ends), offsets.astype(np.int64)


def _spans(data: "NDArray[np.uint8]") -> tuple["NDArray[np.int64]", "NDArray[np.int64]"]:
    """Where words begin and end in UTF-8 bytes."""
    import numpy as np

    kinds = _byte_kinds()[data]
    in_word = kinds > 0
    begins = in_word.copy()
    begins[1:] &= ~in_word[:-1]
    if (kinds == 2).any():
        begins |= in_word & _beside_alone(data, kinds == 2)
    starts = np.flatnonzero(begins)
    stops = np.flatnonzero(begins | ~in_word)
    places = np.searchsorted(stops, starts, side="right")
    return starts, np.append(stops, len(data))[places]


def _beside_alone(data: "NDArray[np.uint8]", alone: "NDArray[np.bool_]") -> "NDArray[np.bool_]":
    """Lead bytes of characters that are words of their own, and of what follows such a one."""
    import numpy as np

    leads = (data & 0xC0) != 0x80
    owner = np.maximum.accumulate(np.where(leads, np.arange(len(data)), 0))
    found: NDArray[np.bool_] = np.concatenate(([False], alone[owner[:-1]])) & leads
    return found | alone


def _byte_kinds() -> "NDArray[np.uint8]":
    """0 separates words, 1 is part of one, 2 leads a character that is a word of its own."""
    import numpy as np

    kinds = np.zeros(256, np.uint8)
    for byte in b"0123456789abcdefghijklmnopqrstuvwxyz":
        kinds[byte] = 1
    kinds[0x80:] = 1
    kinds[0xE3:0xEE] = 2  # U+3000 to U+DFFF: kana, ideographs, hangul
    kinds[0xF0:] = 2  # beyond U+FFFF: rarer ideographs, emoji
    return kinds


def _polynomials(
    data: "NDArray[np.uint8]", starts: "NDArray[np.int64]", ends: "NDArray[np.int64]"
) -> "NDArray[np.uint64]":
    """Mixed polynomial hash of every span: sum of byte_j * base**(end - 1 - j)."""
    import numpy as np

    size = len(data)
    capacity = 1 << max(size, 1).bit_length()
    falling = _powers(pow(_BASE, -1, _MODULUS), capacity)[:size]
    rising = _powers(_BASE, capacity)
    prefix = np.zeros(size + 1, np.uint64)
    np.cumsum((data + np.uint64(1)) * falling, out=prefix[1:])
    sums = (prefix[ends] - prefix[starts]) * rising[ends - 1]
    return mix(sums + (ends - starts).astype(np.uint64))


@lru_cache(maxsize=4)
def _powers(base: int, count: int) -> "NDArray[np.uint64]":
    """base**0, base**1, ... modulo 2**64, by doubling."""
    import numpy as np

    powers = np.ones(count, np.uint64)
    have = 1
    while have < count:
        step = np.uint64(pow(base, have, _MODULUS))
        more = min(have, count - have)
        powers[have : have + more] = powers[:more] * step
        have += more
    return powers


def mix(values: "NDArray[np.uint64]") -> "NDArray[np.uint64]":
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit depends on every bit."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _rolled(hashes: "NDArray[np.uint64]", size: int) -> "NDArray[np.uint64]":
    """One hash for every `size` hashes in a row, order mattering."""
    import numpy as np

    count = max(len(hashes) - size + 1, 0)
    total = np.zeros(count, np.uint64)
    for place in range(size):
        total = total * np.uint64(_BASE) + hashes[place : place + count]
    return mix(total)
