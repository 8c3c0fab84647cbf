"""What the claims of chapter 10 are measured by, see `normcourse.claims`: counts of bytes and operations, no clock."""

import functools

import pandas as pd
import torch

from .counting import Counted, add_rms_norm_steps, by_steps, count_block, fused_frame, norm_in_one, seconds
from .recomputing import recomputed

ROWS = 8 * 2048
WIDTHS = (1024, 4096)
WAYS = {"steps": by_steps, "kernel": norm_in_one}


@functools.cache
def blocks(width):
    """A Transformer block of this width, {way: one row per launch}; only the additions and norms differ."""
    frames = {way: count_block(add_norm, width) for way, add_norm in WAYS.items()}
    return frames | {"fused": fused_frame(frames["steps"], ROWS, width)}


def share(frame, values):
    """What the additions and norms of a block have of a sum over its launches."""
    return values[frame["op"] == "add + norm"].sum() / values.sum()


def pair_bytes(way, width=4096):
    """Bytes of one addition and norm: "steps", "kernel" (the norm is one, the addition another) or "fused"."""
    frame = blocks(width)[way]
    return frame[frame["op"] == "add + norm"]["bytes"].sum() / 2


def saved_by_fusing():
    """Per cent that fusing saves: of the bytes of addition and norm, or of a block's time on an H100's roofline."""
    rows = []
    for way in WAYS:
        rows.append((f"pair_{way}", 100 * (1 - pair_bytes("fused") / pair_bytes(way))))
        for width in WIDTHS:
            before, after = (seconds(blocks(width)[name]).sum() for name in (way, "fused"))
            rows.append((f"block_{way}_{width}", 100 * (1 - after / before)))
    return pd.DataFrame(rows, columns=["setting", "value"])


def cost_of_norms():
    """Per cent of a block that its additions and norms are: of operations, bytes, and time on the roofline."""
    rows = []
    for width in WIDTHS:
        frame = blocks(width)["steps"]
        rows.append((f"flops_{width}", 100 * share(frame, frame["flops"])))
        rows.append((f"bytes_{width}", 100 * share(frame, frame["bytes"])))
        for way in ("steps", "fused"):
            frame = blocks(width)[way]
            rows.append((f"time_{way}_{width}", 100 * share(frame, seconds(frame))))
    return pd.DataFrame(rows, columns=["setting", "value"])


def recomputation(depth=16):
    """Per cent that recomputing every layer, or every second one, adds to the forward pass (calls of layers) and to the
    whole step (operations), and saves of what is kept, and of the most there is at a time."""
    plain, rows = recomputed(depth, 0), []
    for name, every in (("all", 1), ("half", 2)):
        one = recomputed(depth, 1, every)
        rows.append((f"forward_{name}", 100 * (one["calls"] - 1)))
        rows.append((f"step_{name}", 100 * (one["whole"] / plain["whole"] - 1)))
        rows.append((f"memory_{name}", 100 * (1 - (one["kept"] + one["again"]) / plain["kept"])))
    return pd.DataFrame(rows, columns=["setting", "value"])


def launches(rows=4096, columns=4096, dtype=torch.bfloat16):
    """Addition and RMSNorm, an operation each: op, bytes, flops."""
    like = {"dtype": dtype, "device": "meta"}
    x, residual = (torch.empty(rows, columns, **like) for _ in range(2))
    with Counted() as counted:
        add_rms_norm_steps(x, residual, torch.empty(columns, **like))
    return counted.frame()
