"""glibc's own count of what has pages of its own."""

import ctypes
import platform
from collections.abc import Iterator

import pytest
import torch

from evals.memory.allocator import give_back, return_what_is_freed

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has it")


class _Counts(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def counts() -> _Counts:
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Counts
    found: _Counts = mallinfo()
    return found


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    return_what_is_freed(at_once=False)


def with_pages_of_its_own() -> int:
    """Bytes of a tensor of 1 MB that are not of the heap."""
    before = counts().hblkhd
    tensor = torch.ones(2**18)
    there = counts().hblkhd - before
    del tensor
    assert counts().hblkhd == before
    return int(there)


def test_large_tensors_have_pages_of_their_own_where_that_is_asked_for() -> None:
    return_what_is_freed(at_once=True)
    assert with_pages_of_its_own() >= 2**20
    return_what_is_freed(at_once=False)
    assert with_pages_of_its_own() == 0


def test_freed_heap_is_given_back() -> None:
    return_what_is_freed(at_once=True)  # what is smaller stays on the heap
    many = [torch.ones(2**14) for _ in range(300)]  # 64 kB each
    last = torch.ones(2**14)
    del many
    held = _resident()
    give_back()
    assert _resident() < held - 10 * 2**20
    assert float(last[0]) == 1


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096
