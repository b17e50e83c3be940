"""Shingles, similarities and signatures against sets in plain Python."""

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.ingest.near_duplicates import minhash
from stages.ingest.near_duplicates.words import hash_words
from tests.fixtures.near_texts import plain_jaccard, random_text, reworded


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_similarities_are_those_of_plain_sets(draw: random.Random) -> None:
    start = random_text(draw, 30)
    texts = [start] + [reworded(draw, start, draw.choice((0.03, 0.1, 0.3))) for _ in range(5)]
    texts += ["a a a a a a", "a a a", "a b", "a b a b a b"]
    sets = minhash.shingles(hash_words(texts))
    pairs = np.array(list(combinations(range(len(texts)), 2)))
    expected = [plain_jaccard(texts[a], texts[b]) for a, b in pairs]
    assert minhash.jaccard(sets, pairs).tolist() == pytest.approx(expected)


@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=8).map(" ".join), max_size=6))
def test_a_set_has_each_triple_once_in_order(texts: list[str]) -> None:
    sets = minhash.shingles(hash_words(texts))
    assert len(sets) == len(texts)
    for index, text in enumerate(texts):
        words = text.split()
        triples = {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))} - {()}
        own = sets.hashes[sets.offsets[index] : sets.offsets[index + 1]].tolist()
        assert own == sorted(set(own))
        assert len(own) == len(triples)


def test_signatures_and_their_bands_estimate_similarity() -> None:
    draw = random.Random(1)
    texts = [random_text(draw, 200) for _ in range(150)]
    texts += [reworded(draw, text, draw.choice((0.02, 0.1, 0.2))) for text in texts]
    sets = minhash.shingles(hash_words(texts))
    signatures = minhash.signatures(sets)
    pairs = np.array([(i, i + 150) for i in range(150)])
    equal = signatures[pairs[:, 0]] == signatures[pairs[:, 1]]
    error = equal.mean(1) - minhash.jaccard(sets, pairs)
    assert abs(error.mean()) < 0.02
    assert error.std() < 0.07
    left, right = (minhash.band_columns(signatures)[pairs[:, side]] for side in (0, 1))
    agreeing = minhash.agreeing(left, right)
    assert agreeing.shape == (150, minhash.BANDS)
    # Sixteen bits of a place agree by chance once in 65,536 times.
    assert 0 <= agreeing.sum() - equal.sum() <= 3


@given(st.lists(st.tuples(*[st.integers(0, 2**16 - 1)] * 8), min_size=1, max_size=20))
def test_agreeing_counts_equal_places(bands: list[tuple[int, ...]]) -> None:
    values = np.array(bands, np.uint16)
    values[: len(values) // 2, 4:] = values[: len(values) // 2, :4]
    values[::3, 5] = values[::3, 1]
    left, right = (np.ascontiguousarray(values[:, s]) for s in (slice(0, 4), slice(4, 8)))
    found = minhash.agreeing(left.view(np.uint64)[:, 0], right.view(np.uint64)[:, 0])
    assert found.tolist() == (left == right).sum(1).tolist()


@given(st.lists(st.integers(0, 20)))
def test_ascending_is_a_sorted_set(values: list[int]) -> None:
    assert minhash.ascending(np.array(values, np.uint64)).tolist() == sorted(set(values))
