"""Words and their hashes, against a plain reading of the same texts."""

import re
import unicodedata

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.ingest.near_duplicates import words as module
from stages.ingest.near_duplicates.words import hash_words, normalise, split_words

WORD_RUN = r"[0-9a-z\u0080-\U0010ffff]+"
TEXTS = st.lists(st.text("aZ9 .,'’\n\x1e\x00é日本🍕ßİ\u0301", max_size=12), max_size=8)


def plain_words(text: str) -> list[str]:
    """The definition, character by character."""
    found = []
    for run in re.findall(WORD_RUN, normalise([text])[0]):
        found += re.findall(r"[\u3000-\uffff\U00010000-\U0010ffff]|[^\u3000-\U0010ffff]+", run)
    return found


@given(TEXTS)
def test_words_are_the_plain_ones(texts: list[str]) -> None:
    found = hash_words(texts)
    expected = [plain_words(text) for text in texts]
    assert [split_words(text) for text in texts] == expected
    assert np.diff(found.offsets).tolist() == [len(words) for words in expected]
    by_word: dict[str, int] = {}
    flat = [word for words in expected for word in words]
    for word, value in zip(flat, found.hashes.tolist(), strict=True):
        assert by_word.setdefault(word, value) == value
    assert len(set(by_word.values())) == len(by_word)


@given(TEXTS, st.integers(1, 4))
def test_windows_stay_inside_their_text(texts: list[str], size: int) -> None:
    found = hash_words(texts)
    windows = found.windows(size)
    for index, text in enumerate(texts):
        words = plain_words(text)
        alone = hash_words([text]).windows(size).hashes
        own = windows.hashes[windows.offsets[index] : windows.offsets[index + 1]]
        assert len(own) == max(0, len(words) - size + 1)
        assert own.tolist() == alone.tolist()
        if size == 1:
            assert len(set(own.tolist())) == len(set(words))


def test_blocks_do_not_change_the_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["one two three", "", "日本 🍕", "two", "x " * 50]
    whole = hash_words(texts)
    monkeypatch.setattr(module, "_BLOCK_CHARACTERS", 7)
    blocks = hash_words(texts)
    assert blocks.hashes.tolist() == whole.hashes.tolist()
    assert blocks.offsets.tolist() == whole.offsets.tolist()


SIGNS = "aZ .“”…\u00a0\u200b\ufeff•·、！：\u0301\u0327éÅ\u212a\u212bİıſßﬁΣςΑ½①Ｏｋ日ｶﾞ가🍕\x00\n"


@given(st.lists(st.text(SIGNS, max_size=6), max_size=6))
def test_words_are_those_of_nfkc_in_lower_case(texts: list[str]) -> None:
    """Whatever way a text goes: NFKC, then lower case, then separators as spaces."""
    lowered = [unicodedata.normalize("NFKC", text).lower() for text in texts]
    separators = dict.fromkeys(map(ord, module._SEPARATORS), " ")
    expected = [re.findall(WORD_RUN, text.translate(separators)) for text in lowered]
    assert [re.findall(WORD_RUN, text) for text in normalise(texts)] == expected


@given(TEXTS, st.integers(0, 4))
def test_a_part_of_a_column_is_like_a_list(texts: list[str], first: int) -> None:
    column = pl.Series("texts", texts, pl.String)[first:]
    found, expected = hash_words(column), hash_words(texts[first:])
    assert found.hashes.tolist() == expected.hashes.tolist()
    assert found.offsets.tolist() == expected.offsets.tolist()


def test_case_width_and_typography_do_not_matter() -> None:
    one, two = "It’s “GOOD” — ﬁne,\u00a0Ｏｋ", "it's good fine ok"
    assert unicodedata.normalize("NFKC", one).lower() != two
    assert split_words(one) == ["it", "s", "good", "fine", "ok"] == split_words(two)


def test_hashes_are_the_same_for_ever() -> None:
    assert hash_words(["pizza"]).hashes.tolist() == [12699783543078442072]
