"""What the C library keeps, by the size of the process, and when it is asked to give that back."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from evals.memory import between_layers
from evals.memory.allocator import Heap, give_back, resident_bytes
from evals.memory.between_layers import trim_between_layers

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has it")
LAYERS = 3
PARTS = 5
"""A layer of a Llama, and its norms, attention and MLP."""


@contextmanager
def holes(megabytes: int) -> Iterator[None]:
    """Freed memory that is on the heap, since something behind it is not."""
    many = [torch.ones(2**14) for _ in range(16 * megabytes)]  # 64 kB each
    last = torch.ones(2**14)
    del many
    yield
    assert float(last[0]) == 1


def test_freed_heap_is_given_back() -> None:
    with holes(20):
        held = resident_bytes()
        give_back()
        assert resident_bytes() < held - 10 * 2**20


def test_holes_are_given_back_where_a_process_is_larger_than_it_had_to_be() -> None:
    heap = Heap()
    heap.look()
    needed = resident_bytes()
    with holes(2 + needed // 2**20 // 8):
        assert resident_bytes() > needed * 1.1
        heap.look()
        assert resident_bytes() < needed * 1.04


def test_few_holes_stay_to_be_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    heap = Heap()
    heap.look()
    trims: list[int] = []
    monkeypatch.setattr(heap, "_trim", trims.append)
    with holes(1 + resident_bytes() // 2**20 // 250):
        heap.look()
    assert trims == []


def test_memory_that_is_needed_is_not_looked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    heap = Heap()
    heap.look()
    tensor = torch.ones(resident_bytes() // 4 // 8)
    heap.look()  # has grown, gives back, and knows that it is needed
    trims: list[int] = []
    monkeypatch.setattr(heap, "_trim", trims.append)
    heap.look()
    assert trims == []
    assert float(tensor[0]) == 1


def test_a_model_is_looked_at_between_layers_forward_and_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[None] = []
    monkeypatch.setattr(between_layers._heap, "look", lambda: looks.append(None))
    sizes = {"hidden_size": 64, "intermediate_size": 64, "vocab_size": 32}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=LAYERS, num_attention_heads=2))
    trim_between_layers(model)
    trim_between_layers(model)  # a second training of it
    ids = torch.ones(1, 512, dtype=torch.long)  # 128 kB of hidden states
    with torch.no_grad():
        model(ids)
    assert len(looks) == LAYERS * PARTS
    looks.clear()
    model(ids).logits.sum().backward()
    assert len(looks) == 2 * LAYERS * PARTS
    looks.clear()
    model(ids[:, :256])
    assert looks == []
