"""Many prompts with their completions as one row of tokens: hardly padded, and each prompt once.

A tree is a prompt with one or several completions (its branches). In a pack, trees stand one after
another as `[prompt | branch | branch ...]`; every branch counts its positions on from the end of
the prompt. A few tokens that nobody reads fill the row up to a round length.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from evals.models.chat.read_only import plain
from stages.training.attention.places import ROUND_TOKENS, Places
from stages.training.attention.tree import TreeAttention


class Tree(Protocol):
    """A prompt of at least one token and its completions, at least one token each."""

    @property
    def prompt_ids(self) -> Sequence[int]:
        """Tokens that are read only."""

    @property
    def branches(self) -> Sequence[Sequence[int]]:
        """Tokens of each completion that is scored; as many completions in every tree.

        A token below zero is only read: see `evals.models.chat.read_only`.
        """


def tree_size(tree: Tree) -> int:
    """Tokens of a tree: its prompt counts once."""
    return len(tree.prompt_ids) + sum(map(len, tree.branches))


def token_weights(tree: Tree) -> list[list[float] | None]:
    """What each completion token's log-probability counts, by branch; None where all count 1.

    A tree's `tail_weight`, where it has one, is that of the tokens by which a branch is longer
    than the shortest (LD-DPO: Liu et al. 2024, arXiv:2409.06411).
    """
    tail = float(getattr(tree, "tail_weight", 1.0))
    if tail == 1.0:
        return [None] * len(tree.branches)
    shared = min(map(len, tree.branches))
    return [[1.0] * shared + [tail] * (len(ids) - shared) for ids in tree.branches]


def first_fit_decreasing(sizes: Sequence[int], budget: int, most: int) -> list[list[int]]:
    """Indices of items in bins of at most `budget` tokens and `most` items.

    Longest first, each into the first bin with room (Johnson 1973); one that is longer than the
    budget gets a bin of its own.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        size = sizes[index]
        fits = (b for b in range(len(bins)) if size <= room[b] and len(bins[b]) < most)
        place = next(fits, None)
        if place is None:
            bins.append([])
            room.append(budget)
            place = len(bins) - 1
        bins[place].append(index)
        room[place] -= size
    return bins


@dataclass(frozen=True)
class Tile:
    """Some whole trees of a pack and their k completion tokens, one after another.

    `trees`: indices within the pack. `predictors` int64 (k,): where in the row the token is
    predicted from. `targets` int64 (k,): the token. `branches` int64 (k,): which branch of the
    tile, counted through all of its trees, the token is of; there are `num_branches`. `weights`
    float64 (k,): what each token counts; None where all count 1.
    """

    trees: range
    predictors: Tensor
    targets: Tensor
    branches: Tensor
    num_branches: int
    weights: Tensor | None = None


@dataclass(frozen=True)
class Pack:
    """A row of trees: int64 (1, tokens) each, and what attention needs to know about it."""

    trees: Sequence[Tree]
    places: Sequence[Places]
    input_ids: Tensor
    position_ids: Tensor
    attention: TreeAttention

    @classmethod
    def of(cls, trees: Sequence[Tree], device: torch.device) -> "Pack":
        """Lay trees out one after another.

        Raises:
            ValueError: a prompt or a completion is empty.
        """
        places = list(_places(trees))
        filler = range(places[-1].branches[-1].stop, _rounded(places[-1].branches[-1].stop))
        row = np.zeros((2, filler.stop), dtype=np.int64)
        row[1, filler.start :] = np.arange(len(filler))
        for tree, place in zip(trees, places, strict=True):
            for ids, run in zip(
                (tree.prompt_ids, *tree.branches), (place.prompt, *place.branches), strict=True
            ):
                row[0, run.start : run.stop] = plain(ids)
                first = 0 if run is place.prompt else len(place.prompt)
                row[1, run.start : run.stop] = np.arange(first, first + len(run))
        rows = torch.from_numpy(row).to(device)
        return cls(trees, places, rows[:1], rows[1:], TreeAttention(places, filler, device))

    def tiles(self, most_tokens: int) -> Iterator[Tile]:
        """The trees in groups of at most `most_tokens` completion tokens, or of one tree."""
        start, size = 0, 0
        for index, tree in enumerate(self.trees):
            more = sum(map(len, tree.branches))
            if size and size + more > most_tokens:
                yield self._tile(range(start, index))
                start, size = index, 0
            size += more
        yield self._tile(range(start, len(self.trees)))

    def _tile(self, trees: range) -> Tile:
        runs = []
        for place in self.places[trees.start : trees.stop]:
            for branch in place.branches:
                runs.append([place.prompt[-1], *branch[:-1]])
        targets = [ids for i in trees for ids in self.trees[i].branches]
        lengths = list(map(len, runs))
        table = [
            np.concatenate(runs),
            np.concatenate([np.asarray(ids) for ids in targets]),
            np.repeat(np.arange(len(runs)), lengths),
        ]
        stacked = np.stack(table).astype(np.int64)
        trained = stacked[1] >= 0
        index = torch.from_numpy(stacked[:, trained]).to(self.input_ids.device)
        rows = [row for i in trees for row in token_weights(self.trees[i])]
        weights = None
        if any(row is not None for row in rows):
            filled = [row or [1.0] * n for row, n in zip(rows, lengths, strict=True)]
            weights = torch.from_numpy(np.concatenate(filled)[trained]).to(index.device)
        return Tile(trees, index[0], index[1], index[2], len(runs), weights)


def _rounded(tokens: int) -> int:
    return -(-tokens // ROUND_TOKENS) * ROUND_TOKENS


def _places(trees: Sequence[Tree]) -> Iterator[Places]:
    end = 0
    for tree in trees:
        lengths = [len(tree.prompt_ids), *map(len, tree.branches)]
        if len(lengths) < 2 or not all(lengths):
            raise ValueError("a prompt and a completion need at least one token each")
        prompt, *branches = (range(a, b) for a, b in pairwise(accumulate(lengths, initial=end)))
        end = branches[-1].stop
        yield Places(prompt, branches)
