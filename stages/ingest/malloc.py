"""Freed memory stays with the process while blocks are read: each block needs as much again."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of <malloc.h>
_BYTES = 64 << 20


def keep_freed_memory() -> None:
    """Let glibc hand back only what exceeds 64 MB; other C libraries are left as they are.

    Otherwise every array of a block's size is mapped, filled with zeros page by page, and unmapped:
    up to a tenth of the CPU time of reading.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _BYTES // 2)
        mallopt(_TRIM_THRESHOLD, _BYTES)
