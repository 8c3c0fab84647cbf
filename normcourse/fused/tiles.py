"""How large a tile is, and how many threads and programs work on it.

The sizes were chosen from compiled code: for sm_90 and bf16 no tile spills registers (`compiled.report` shows it, and a
test holds it for every row up to 8192).
"""

from functools import lru_cache
from typing import NamedTuple

import torch

from .interpreter import INTERPRETED, triton

STAGES = 2  # the next tile is on its way, by asynchronous copy, while this one is computed


class Tile(NamedTuple):
    """rows × columns elements for so many threads; `held` says that columns covers a whole row."""

    rows: int
    columns: int
    threads: int
    held: bool = True


@lru_cache
def forward_tile(n, itemsize=4, interpreted=INTERPRETED.value):
    """The tile of `forward`, or that of `forward_wide` where a row of n elements does not fit the registers.

    itemsize: bytes of the dtype that is computed in, 4 or 8.
    """
    columns = triton.next_power_of_2(n)
    if columns * itemsize > 2**17:
        # 1024 threads fill a multiprocessor: one row each is under way, and few enough to be found in cache again
        return Tile(1, 2**15 // itemsize, 1024, held=False)
    if interpreted:  # a program costs about a millisecond, however small it is
        return Tile(max(1, 2**14 // columns), columns, 128)
    if columns <= 4096:
        return Tile(max(2048 // columns, 16 if columns <= 512 else 16 // itemsize), columns, 256)
    return Tile(1, columns, 512 if columns * itemsize <= 2**16 else 1024)


@lru_cache
def backward_tile(n, itemsize=4, interpreted=INTERPRETED.value):
    """The tile of `backward`: two inputs and up to two sums are held, so it is smaller than that of `forward`."""
    columns = triton.next_power_of_2(n)
    if columns * itemsize > 2**15:
        return Tile(1, 2**14 // itemsize, 256, held=False)
    rows = max(1, 2**14 // itemsize // columns)
    if interpreted:
        return Tile(rows, columns, 128)
    return Tile(min(32, rows), columns, 256 if columns * itemsize <= 2**14 else 512)


def compiler_options(tile, warp=64 if torch.version.hip else 32):
    """How Triton is to compile for a tile; a product and a sum may be fused, which rounds once instead of twice."""
    return {"num_warps": tile.threads // warp, "enable_fp_fusion": True}


@lru_cache
def programs(device, threads):
    """How many programs run `backward`: as many as the device holds at once, at 128 registers per thread."""
    if device.type != "cuda":
        return 2
    return torch.cuda.get_device_properties(device).multi_processor_count * (512 // threads)
