"""The ranks that train one model together; a process alone is a world of one and pays nothing.

A rank is one process with one device, started by torchrun. Rank 0 keeps the run directory and
decides; the others follow its decisions and write nothing that is kept.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch._C._distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous
from transformers import PreTrainedModel

from evals.models.checkpoints import torch_device
from schemas.errors import BackendError
from schemas.files import first_line
from schemas.ids import seed_from
from schemas.stage import Runtime

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """All ranks, seen from one of them. `device` is where this rank computes."""

    rank: int = 0
    size: int = 1
    device: torch.device | None = None
    store: Store | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def agree(self, value: T) -> T:
        """Rank 0's `value`, on every rank. All ranks must call it; alone it is `value` itself."""
        if self.size == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def join(self, table: Tensor, counts: Sequence[int]) -> Tensor:
        """The tables (k, counts[rank]) of all ranks side by side, on every rank, in rank order."""
        if self.size == 1:
            return table
        padded = table.new_zeros(len(table), max(counts))
        padded[:, : table.shape[1]] = table
        parts = [torch.empty_like(padded) for _ in counts]
        torch.distributed.all_gather(parts, padded)
        return torch.cat([p[:, :n] for p, n in zip(parts, counts, strict=True)], dim=1)


_ALONE = World()
_worlds = [_ALONE]


def current_world() -> World:
    """The world that this process has joined, else that of a process alone."""
    return _worlds[-1]


@contextmanager
def joined_world(runtime: Runtime) -> Iterator[World]:
    """Join the ranks that torchrun has started, for a block of work.

    Tensors on the CPU travel by gloo, which notices at once when a peer dies, those on GPUs by
    NCCL. A rank waits `runtime.rank_timeout_seconds` for another, then fails.

    Raises:
        ConfigError: the runtime asks for a GPU and there is none.
        BackendError: the ranks do not find each other.
    """
    _worlds.append(_join(runtime))
    try:
        yield current_world()
        # Only after success: in a broken group this would wait for those that are gone.
        torch.distributed.destroy_process_group()
    finally:
        _worlds.pop()


def _join(runtime: Runtime) -> World:
    patience = timedelta(seconds=runtime.rank_timeout_seconds)
    device = _own_device(runtime)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "cpu:gloo"
    try:
        store, rank, size = next(rendezvous("env://", timeout=patience))
        store.set_timeout(patience)
        torch.distributed.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=patience
        )
    except RuntimeError as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise BackendError(
            f"rank {os.environ.get('RANK')}: no contact with the other ranks by way of {where} "
            f"({first_line(error)}); check that the nodes reach each other"
        ) from error
    return World(rank, size, device, store)


def _own_device(runtime: Runtime) -> torch.device:
    """This rank's device: on a machine with several GPUs, the one of its number there."""
    device = torch_device(runtime)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device


def loading_device(runtime: Runtime) -> torch.device:
    """Where a model is loaded to: its device, but the CPU where ranks will share its weights."""
    return torch_device(runtime) if current_world().size == 1 else torch.device("cpu")


def computing_device(model: PreTrainedModel) -> torch.device:
    """Where a model runs: on several ranks not where it was loaded to."""
    return current_world().device or model.device


def share_file(path: Path) -> None:
    """Give every other rank rank 0's file, or none where rank 0 has none, in its own folder."""
    world = current_world()
    if world.size == 1:
        return
    data = world.agree(path.read_bytes() if world.is_main and path.exists() else None)
    if not world.is_main:
        path.unlink(missing_ok=True)
        if data is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def seed_rank(seed: int, step: int) -> None:
    """On several ranks: random layers of each rank and step draw their own numbers.

    They follow from step and rank alone, so that no rank's random state has to be saved.
    """
    world = current_world()
    if world.size > 1:
        torch.manual_seed(seed_from(seed, "rank", world.rank, "step", step))
