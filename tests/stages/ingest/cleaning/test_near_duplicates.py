"""Near-duplicates against sets in plain Python, planted copies, and the two policies."""

import random
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.ingest.cleaning import minhash
from stages.ingest.cleaning.near_duplicates import held_out_together, near_pairs, surplus
from stages.ingest.cleaning.words import hash_words

VOCABULARY = [f"w{i}" for i in range(3000)]


def random_text(draw: random.Random, count: int) -> str:
    return " ".join(draw.choice(VOCABULARY) for _ in range(count))


def reworded(draw: random.Random, text: str, share: float) -> str:
    words = text.split()
    for place in draw.sample(range(len(words)), max(1, int(share * len(words)))):
        words[place] = draw.choice(VOCABULARY)
    return " ".join(words)


def plain_jaccard(left: str, right: str) -> float:
    sets = []
    for text in (left, right):
        words = text.split()
        sets.append({tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def found_pairs(texts: Sequence[str], threshold: float = 0.7) -> set[tuple[int, int]]:
    pairs, similarity = near_pairs(minhash.shingles(hash_words(texts)), threshold)
    assert (similarity >= threshold).all()
    return {(int(a), int(b)) for a, b in pairs}


def test_planted_copies_are_found_and_nothing_else() -> None:
    draw = random.Random(5)
    texts = [random_text(draw, draw.randint(40, 160)) for _ in range(1500)]
    planted = set()
    for index in draw.sample(range(1500), 400):
        planted.add((index, len(texts)))
        texts.append(reworded(draw, texts[index], 0.03))
    assert all(plain_jaccard(texts[a], texts[b]) > 0.7 for a, b in planted)
    found = found_pairs(texts)
    assert len(found & planted) >= 0.99 * len(planted)
    assert found <= planted


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_similarities_are_those_of_plain_sets(draw: random.Random) -> None:
    start = random_text(draw, 30)
    texts = [start] + [reworded(draw, start, draw.choice((0.03, 0.1, 0.3))) for _ in range(5)]
    texts += ["two words", "two words", "Two WORDS!", "words two", "", "..."]
    sets = minhash.shingles(hash_words(texts))
    pairs = np.array(list(combinations(range(6), 2)))
    expected = [plain_jaccard(texts[a], texts[b]) for a, b in pairs]
    assert minhash.jaccard(sets, pairs).tolist() == pytest.approx(expected)
    short = {pair for pair in found_pairs(texts) if min(pair) >= 6}
    assert short == {(6, 7), (6, 8), (7, 8)}


def test_many_copies_of_one_text_cost_few_pairs() -> None:
    texts = [f"the same boilerplate again and again number {i} and no more than that" for i in (1,)]
    found = found_pairs(texts * 5000)
    assert {b for _, b in found} | {0} == set(range(5000))
    assert len(found) < 3 * 5000


def test_signatures_estimate_similarity() -> None:
    draw = random.Random(1)
    texts = [random_text(draw, 200) for _ in range(150)]
    texts += [reworded(draw, text, draw.choice((0.02, 0.1, 0.2))) for text in texts]
    sets = minhash.shingles(hash_words(texts))
    signatures = minhash.signatures(sets)
    pairs = np.array([(i, i + 150) for i in range(150)])
    estimate = (signatures[pairs[:, 0]] == signatures[pairs[:, 1]]).mean(1)
    error = estimate - minhash.jaccard(sets, pairs)
    assert abs(error.mean()) < 0.02
    assert error.std() < 0.07


def test_rensa_flags_what_is_found_here() -> None:
    """An independent implementation, where it is installed: the same decisions once confirmed."""
    rensa = pytest.importorskip("rensa")
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


def test_near_copies_of_what_is_held_out_are_held_out() -> None:
    splits = ["train", "train", "test", "train", "train", "train"]
    pairs = [(0, 1), (1, 2), (3, 4)]
    assert held_out_together(pairs, splits) == {0: "test", 1: "test"}


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12), st.data())
def test_more_rows_never_take_anything_out_of_the_test_split(
    pairs: list[tuple[int, int]], data: st.DataObject
) -> None:
    pairs = [(min(p), max(p)) for p in pairs if p[0] != p[1]]
    splits = data.draw(st.lists(st.sampled_from(("train", "test")), min_size=10, max_size=10))

    def held_out(limit: int) -> set[int]:
        """The test split once the first `limit` texts have been read."""
        known = [p for p in pairs if max(p) < limit]
        moved = held_out_together(known, splits)
        after = [moved.get(i, split) for i, split in enumerate(splits)]
        assert all(after[a] == after[b] for a, b in known)
        return {i for i in range(limit) if after[i] == "test"}

    smaller, larger = held_out(6), held_out(10)
    assert smaller <= larger


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=14), st.data())
def test_what_is_dropped_is_near_what_is_kept(
    pairs: list[tuple[int, int]], data: st.DataObject
) -> None:
    pairs = sorted({(min(p), max(p)) for p in pairs if p[0] != p[1]})
    splits = data.draw(st.lists(st.sampled_from(("train", "test")), min_size=10, max_size=10))
    ids = [f"{data.draw(st.integers(0, 99)):02d}-{i}" for i in range(10)]
    dropped = surplus(pairs, [0.9] * len(pairs), splits, ids)
    kept = set(range(10)) - set(dropped)
    assert not [p for p in pairs if set(p) <= kept]
    for index, error in dropped.items():
        near = {a if b == index else b for a, b in pairs if index in (a, b)}
        like = next(i for i in range(10) if error.detail.endswith(f" {ids[i]}"))
        assert like in near & kept
        assert splits[index] == "train" or splits[like] == "test"
