"""How the C library hands out memory on a CPU, and takes it back. Another than glibc is let be."""

import ctypes
import gc
import os

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h
_ALONE = 2**17
_TOGETHER = 2**25
"""What glibc's own threshold, which follows what is freed, grows to."""

_is_set = False


def return_what_is_freed(at_once: bool) -> None:
    """Whether every tensor of 128 kB or more has pages of its own, given back when it is freed.

    Else glibc carves tensors of up to 32 MB out of one heap, and the holes that those leave which
    live a moment only are not all filled again. The price is a page fault for every page that is
    touched first: docs/memory.md has what both cost where.
    """
    global _is_set
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and (at_once or _is_set):
        mallopt(_MMAP_THRESHOLD, _ALONE if at_once else _TOGETHER)
        _is_set = True


def use_large_pages() -> None:
    """Let torch ask Linux for pages of 2 MB where a tensor fills them, from the next one on.

    Every page that is touched first costs a fault: with pages of 4 kB that is 2% of a step. Only
    what is allocated before the first large tensor can set it; a value that is there stands.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def give_back() -> None:
    """Freed heap, objects in circles before: 0.2 GB after a small model has judged."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
