"""How large a tile is, and how many warps and programs work on it.

The sizes were chosen from compiled code: for sm_90 and bf16 no tile spills registers (`compiled.report` shows it, and a
test holds it for every row up to 8192).
"""

from functools import lru_cache
from typing import NamedTuple

import torch

from .interpreter import INTERPRETED, triton

STAGES = 2  # the next tile is on its way, by asynchronous copy, while this one is computed


class Tile(NamedTuple):
    """rows × columns elements for `warps` × 32 threads; `held` says that columns covers a whole row."""

    rows: int
    columns: int
    warps: int
    held: bool = True


@lru_cache
def forward_tile(n, itemsize=4, interpreted=INTERPRETED.value):
    """The tile of `forward`, or that of `forward_wide` where a row of n elements does not fit the registers.

    itemsize: bytes of the dtype that is computed in, 4 or 8.
    """
    columns = triton.next_power_of_2(n)
    if columns * itemsize > 2**17:
        return Tile(1, 2**15 // itemsize, 16, held=False)
    if interpreted:  # a program costs about a millisecond, however small it is
        return Tile(max(1, 2**14 // columns), columns, 4)
    if columns <= 4096:
        return Tile(max(2048 // columns, 16 if columns <= 512 else 16 // itemsize), columns, 8)
    return Tile(1, columns, 16 if columns * itemsize <= 2**16 else 32)


@lru_cache
def backward_tile(n, itemsize=4, interpreted=INTERPRETED.value):
    """The tile of `backward`: two inputs and up to two sums are held, so it is smaller than that of `forward`."""
    columns = triton.next_power_of_2(n)
    if columns * itemsize > 2**15:
        return Tile(1, 2**14 // itemsize, 8, held=False)
    rows = max(1, 2**14 // itemsize // columns)
    if interpreted:
        return Tile(rows, columns, 4)
    return Tile(min(32, rows), columns, 8 if columns * itemsize <= 2**14 else 16)


@lru_cache
def programs(device, warps):
    """How many programs run `backward`: as many as the device holds at once, at 128 registers per thread."""
    if device.type != "cuda":
        return 2
    return torch.cuda.get_device_properties(device).multi_processor_count * (16 // warps)
