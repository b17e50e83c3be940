"""What the C library holds of what was freed, on a CPU. Another than glibc is let be."""

import ctypes
import gc
import os

_SLACK = 1 / 32
_STATM = "/proc/self/statm"  # of Linux


class Heap:
    """Freed memory that is given back where a process has become larger than it ever had to be.

    glibc serves tensors of up to 32 MB from one heap, and what lived a moment only leaves holes
    between tensors that stay; not all of them are filled again. Giving back every tensor when it is
    freed costs a page fault for each page of the next one. Here holes stay, to be filled, as long
    as the process is not larger than it was found to need: its size when holes were last given
    back, at most, and 1/32 of it.
    """

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._needed = 0

    def look(self) -> None:
        """Give back the holes, should there be too many."""
        if self._trim is None or not os.path.exists(_STATM):
            return
        if resident_bytes() > (1 + _SLACK) * self._needed:
            self._trim(0)
            self._needed = max(self._needed, resident_bytes())


def resident_bytes() -> int:
    """Of this process: memory that it has touched. On Linux."""
    with open(_STATM, "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


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
