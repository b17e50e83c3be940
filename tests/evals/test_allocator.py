"""What the C library keeps, by glibc's own count and by the size of the process."""

import platform
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from evals.memory.allocator import give_back, return_what_is_freed

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has it")

# Of a megabyte in a process whose heap has no hole for it: bytes that are not of the heap.
COUNT = """
import ctypes
from evals.memory.allocator import return_what_is_freed

names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
Counts = type("Counts", (ctypes.Structure,), {"_fields_": [(n, ctypes.c_size_t) for n in names]})
library = ctypes.CDLL(None)
library.mallinfo2.restype = Counts
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]
for at_once in (True, False):
    return_what_is_freed(at_once)
    before = library.mallinfo2().hblkhd
    place = library.malloc(2**20)
    print(library.mallinfo2().hblkhd - before)
    library.free(place)
    assert library.mallinfo2().hblkhd == before
"""


@pytest.fixture
def _as_before() -> Iterator[None]:
    yield
    return_what_is_freed(at_once=False)


def test_what_is_large_has_pages_of_its_own_where_that_is_asked_for() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT], check=True, capture_output=True, text=True)
    alone, together = map(int, done.stdout.split())
    assert alone >= 2**20
    assert together == 0


@pytest.mark.usefixtures("_as_before")
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
