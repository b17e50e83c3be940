"""The items of a step dealt to ranks: about as many tokens and exactly as many passes for each.

Every rank knows all items, so nothing is exchanged to agree on who does what.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from stages.training.distributed.world import current_world
from stages.training.objectives.base import Columns

Item = TypeVar("Item")


def deal(sizes: Sequence[int], hands: int) -> list[list[int]]:
    """Indices of items in `hands` parts of similar total size, each in the order it came.

    Largest first, each to the part with the least so far (LPT, Graham 1969).
    """
    parts: list[list[int]] = [[] for _ in range(hands)]
    totals = [0] * hands
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        least = min(range(hands), key=totals.__getitem__)
        parts[least].append(index)
        totals[least] += sizes[index]
    return [sorted(part) for part in parts]


class Dealt(Generic[Item]):
    """Items that all ranks take through the model together.

    `items` are in the order in which `columns` has them.
    """

    def __init__(
        self,
        items: Sequence[Item],
        num_tokens: Callable[[Item], int],
        micro_batches: Callable[[Sequence[Item]], list[list[Item]]],
    ) -> None:
        """`micro_batches` forms the forward passes of one rank's items."""
        self._world = current_world()
        sizes = [num_tokens(item) for item in items]
        hands = [[items[i] for i in part] for part in deal(sizes, self._world.size)]
        ranks = [micro_batches(hand) if hand else [] for hand in hands]
        self._counts = [len(hand) for hand in hands]
        self._mine = ranks[self._world.rank]
        # A pass without weight for a rank that is done: sharded weights are gathered by all.
        smallest = items[min(range(len(items)), key=sizes.__getitem__)]
        self._idle = [[smallest]] * (max(map(len, ranks)) - len(self._mine))
        self.items = [item for rank in ranks for micro in rank for item in micro]

    def passes(self) -> Iterator[tuple[Sequence[Item], float]]:
        """This rank's micro-batches, with the weight of each one's gradient.

        The weight makes a sum over ranks of FSDP's mean over ranks.
        """
        for micro in self._mine:
            yield micro, self._world.size
        for micro in self._idle:
            yield micro, 0.0

    def columns(self, parts: Sequence[Columns]) -> dict[str, Tensor]:
        """Columns (n,) of all items from those of this rank's passes, float64 on the CPU."""
        real = len(self._mine)
        kept = [*parts[:real], *({n: c[:0] for n, c in part.items()} for part in parts[real:])]
        names = list(kept[0])
        table = torch.stack([torch.cat([part[n].double() for part in kept]) for n in names]).cpu()
        return dict(zip(names, self._world.join(table, self._counts).unbind(), strict=True))
