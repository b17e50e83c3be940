"""The index of texts against plain sets, planted copies, templates, and parts of any size."""

import random
from itertools import combinations

import numpy as np
import pytest
import rensa
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.ingest.near_duplicates import buckets, minhash, pair_runs, scratch, text_index
from stages.ingest.near_duplicates.search import Groups
from stages.ingest.near_duplicates.words import hash_words
from tests.fixtures.near_texts import found_pairs, indexed, plain_jaccard, random_text, reworded


def test_planted_copies_are_found_and_nothing_else() -> None:
    draw = random.Random(5)
    texts = [random_text(draw, draw.randint(40, 160)) for _ in range(1500)]
    planted = set()
    for index in draw.sample(range(1500), 400):
        planted.add((index, len(texts)))
        texts.append(reworded(draw, texts[index], 0.03))
    assert all(plain_jaccard(texts[a], texts[b]) > 0.7 for a, b in planted)
    found = set(found_pairs(texts))
    assert len(found & planted) >= 0.99 * len(planted)
    assert found <= planted


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from((0.7, 0.8, 1.0)), st.integers(1, 9))
def test_near_pairs_are_those_of_plain_sets(
    draw: random.Random, threshold: float, piece: int
) -> None:
    """By definition: whatever is found is as near as said, and what is clearly near is found."""
    texts = [random_text(draw, draw.randint(3, 40)) for _ in range(3)]
    for _ in range(9):
        texts.append(reworded(draw, draw.choice(texts), draw.choice((0.02, 0.1, 0.3))))
    texts += draw.choices(texts, k=2)
    alike = {(a, b): plain_jaccard(texts[a], texts[b]) for a, b in combinations(range(14), 2)}
    found = found_pairs(texts, threshold, piece)
    assert found == pytest.approx({pair: alike[pair] for pair in found})
    assert min(found.values(), default=1) >= threshold
    # At 0.9 one in 2e9 is missed.
    assert {pair for pair, s in alike.items() if s >= max(0.9, threshold)} <= set(found)


def test_texts_of_few_words_are_equal_or_not_and_those_of_none_are_like_nothing() -> None:
    texts = ["two words", "", "two words", "Two WORDS!", "...", "words two", "", "one", "one"]
    assert found_pairs(texts, piece=2) == {(0, 2): 1, (0, 3): 1, (2, 3): 1, (7, 8): 1}
    assert found_pairs([]) == found_pairs([""] * 40) == {}


def test_many_copies_of_one_text_cost_few_pairs() -> None:
    found = found_pairs(["the same boilerplate again and again and no more than that"] * 5000)
    assert {b for _, b in found} | {0} == set(range(5000))
    assert len(found) < 3 * 5000


def test_near_copies_of_a_template_cost_few_pairs() -> None:
    draw = random.Random(4)
    head, tail = random_text(draw, 40), random_text(draw, 20)
    texts = [f"{head} {random_text(draw, draw.randint(2, 5))} {tail}" for _ in range(3000)]
    found = found_pairs(texts)
    assert {text for pair in found for text in pair} == set(range(3000))
    assert len(found) < 20 * 3000


def test_what_is_not_wanted_is_not_compared() -> None:
    """By the time a group is known few of its pairs are looked at: one for each further text."""
    draw = random.Random(4)
    head = random_text(draw, 60)
    texts = [f"{head} {random_text(draw, 3)}" for _ in range(1000)]
    with indexed(texts) as index:
        groups, compared = Groups(1000), 0
        for pairs, _ in index.near_pairs(0.7, wanted=groups.apart):
            groups.join(pairs)
            compared += len(pairs)
    assert compared == 999
    assert len(found_pairs(texts)) > 2000
    levels = np.where(np.arange(1000) == 7, 2, 0).astype(np.uint8)
    assert groups.held_out_together(levels).tolist() == [2] * 1000


def test_the_size_of_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(6)
    texts = [random_text(draw, draw.randint(1, 60)) for _ in range(300)]
    texts += [reworded(draw, draw.choice(texts), 0.05) for _ in range(300)] + texts[:40] * 3
    whole = found_pairs(texts)
    monkeypatch.setattr(scratch, "_BLOCK", 7)
    monkeypatch.setattr(buckets, "_TEXTS", 50)
    monkeypatch.setattr(text_index, "_CANDIDATES", 20)
    monkeypatch.setattr(text_index, "_CANDIDATES_PER_TEXT", 0)
    monkeypatch.setattr(pair_runs, "_TEXTS", 30)
    monkeypatch.setattr(text_index, "_PAIRS", 9)
    monkeypatch.setattr(text_index, "_SHINGLES", 100)
    assert found_pairs(texts, piece=11) == whole
    assert len(whole) > 500


def test_rensa_flags_what_is_found_here() -> None:
    """An independent implementation: the same decisions once confirmed."""
    draw = random.Random(2)
    texts = [random_text(draw, 80) for _ in range(800)]
    texts += [reworded(draw, texts[i], 0.03) for i in range(0, 800, 4)]
    sets = minhash.shingles(hash_words(texts))
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        sets.hashes.astype(np.uint64), sets.offsets.astype(np.uint64), 128, 7
    )
    flags = rensa.RMinHashLSH(0.7, 128, 32).query_duplicate_flags_matrix_one_shot(matrix)
    ours = {index for pair in found_pairs(texts) for index in pair}
    flagged = {index for index, flag in enumerate(flags) if flag}
    assert len(ours) == 400
    assert ours <= flagged
