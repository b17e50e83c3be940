"""Number formats of a forward pass, switched on for a block of work."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


def autocast(dtype: str, device: torch.device) -> AbstractContextManager[None]:
    """Mixed precision around a forward pass; does nothing for float32."""
    context: AbstractContextManager[None] = torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=dtype == "bfloat16"
    )
    return context


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """`torch.set_float32_matmul_precision` within the block."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
