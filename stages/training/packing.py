"""Many prompts with their completions as one row of tokens: no padding, and each prompt once.

A tree is a prompt with one or several completions (its branches). In a pack, trees stand one after
another as `[prompt | branch | branch ...]`; every branch counts its positions on from the end of
the prompt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stages.training.tree_attention import TreeAttention


class Tree(Protocol):
    """A prompt of at least one token and its completions, at least one token each."""

    @property
    def prompt_ids(self) -> Sequence[int]:
        """Tokens that are read only."""

    @property
    def branches(self) -> Sequence[Sequence[int]]:
        """Tokens of each completion that is scored; as many completions in every tree."""


def tree_size(tree: Tree) -> int:
    """Tokens of a tree: its prompt counts once."""
    return len(tree.prompt_ids) + sum(map(len, tree.branches))


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
    tile, counted through all of its trees, the token is of; there are `num_branches`.
    """

    trees: range
    predictors: "Tensor"
    targets: "Tensor"
    branches: "Tensor"
    num_branches: int


@dataclass(frozen=True)
class Pack:
    """A row of trees: int64 (1, tokens) each, and what attention needs to know about it."""

    trees: Sequence[Tree]
    input_ids: "Tensor"
    position_ids: "Tensor"
    attention: "TreeAttention"

    @classmethod
    def of(cls, trees: Sequence[Tree], device: "torch.device") -> "Pack":
        """Lay trees out one after another.

        Raises:
            ValueError: a prompt or a completion is empty.
        """
        import torch

        from stages.training.tree_attention import TreeAttention

        tokens: list[int] = []
        positions: list[int] = []
        sequences: list[list[int]] = []
        for tree, prompt, branches in _places(trees):
            tokens += tree.prompt_ids
            positions += range(len(prompt))
            for ids, branch in zip(tree.branches, branches, strict=True):
                tokens += ids
                positions += range(len(prompt), len(prompt) + len(branch))
                sequences.append([*prompt, *branch])
        rows = torch.tensor([[tokens], [positions]], device=device)
        attention = TreeAttention.over(sequences, len(tokens), device)
        return cls(trees, rows[0], rows[1], attention)

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
        import torch

        predictors: list[int] = []
        targets: list[int] = []
        branch_of: list[int] = []
        count = 0
        for tree, prompt, branches in list(_places(self.trees))[trees.start : trees.stop]:
            for ids, branch in zip(tree.branches, branches, strict=True):
                predictors += [prompt[-1], *branch[:-1]]
                targets += ids
                branch_of += [count] * len(ids)
                count += 1
        table = torch.tensor([predictors, targets, branch_of], device=self.input_ids.device)
        return Tile(trees, table[0], table[1], table[2], count)


def _places(trees: Sequence[Tree]) -> Iterator[tuple[Tree, range, list[range]]]:
    """Each tree with the places of its prompt and of its branches in the row."""
    end = 0
    for tree in trees:
        if not (len(tree.prompt_ids) and tree.branches and all(map(len, tree.branches))):
            raise ValueError("a prompt and a completion need at least one token each")
        prompt = range(end, end + len(tree.prompt_ids))
        end = prompt.stop
        branches = []
        for ids in tree.branches:
            branches.append(range(end, end + len(ids)))
            end += len(ids)
        yield tree, prompt, branches
