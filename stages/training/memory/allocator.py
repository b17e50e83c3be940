"""How the C library hands out memory to a training on a CPU."""

import ctypes
import os

import torch

from stages.training.config import TrainingConfig

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h
_BYTES = 2**20


def return_what_is_freed(training: TrainingConfig, device: torch.device) -> None:
    """Let every large tensor have pages of its own, which are given back when it is freed.

    glibc carves tensors of some megabytes out of one heap. Under LoRA most results of a forward
    pass live a moment only, between others that are kept for the backward, and the holes that they
    leave are not filled again: 0.4 GB of 1.9 in a pass over 512 tokens of a model of 135M weights.
    The price is a page fault for every 4 kB: about 5% of the time. Full fine-tuning in float32
    keeps nearly all that it makes, and leaves no holes. Another C library is left as it is.
    """
    short = training.optimizer_states != "float32" or training.weights == "bfloat16"
    kept_alone = training.lora is None and not training.gradient_checkpointing and not short
    if device.type != "cpu" or kept_alone:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _BYTES)


def use_large_pages() -> None:
    """Let torch ask Linux for pages of 2 MB where a tensor fills them, from the next one on.

    Every page that is touched first costs a fault: with pages of 4 kB that is 2% of a step. Only
    what is allocated before the first large tensor can set it; a value that is there stands.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
