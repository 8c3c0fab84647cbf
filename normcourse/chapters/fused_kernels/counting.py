"""Bytes, launches and floating-point operations of a program, counted while it runs; and the time a GPU needs for them.

On the device "meta" a program is counted without being computed, so its tensors may have any size.
"""

import math
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# bytes/s and bf16 operations/s of the matrix units, dense, as NVIDIA's data sheets have them (SXM boards)
GPUS = {"A100": (2.04e12, 312e12), "H100": (3.35e12, 989e12), "H200": (4.8e12, 989e12)}
MATRIX_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm")
NOTHING_MOVES = ("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "_unsafe_view", "detach")


class Launch(NamedTuple):
    """What one operation of torch reads and writes, and how much it computes.

    op: its name in torch's library. read, written: {start of the memory: bytes}. flops: additions and multiplications.
    """

    op: str
    read: dict
    written: dict
    flops: int

    @property
    def bytes(self):
        return sum(self.read.values()) + sum(self.written.values())


class Counted(TorchDispatchMode):
    """Inside, `launches` gets one `Launch` for each operation that moves data. A view moves none.

    An operation is taken to read each of its inputs once and to write each of its outputs once, whatever it is inside.
    """

    def __init__(self):
        super().__init__()
        self.launches, self._alive = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result, name = func(*args, **(kwargs or {})), func._schema.name.split("::")[1]
        if not func.is_view and name not in NOTHING_MOVES:
            read, written = _tensors((args, kwargs)), _tensors(result)
            if name == "copy_":
                read = read[1:]
            self._alive += read + written  # memory that is freed would be given to another tensor
            self.launches.append(Launch(name, _bytes(read), _bytes(written), _flops(name, read, written)))
        return result

    def frame(self):
        """One row per launch: op, bytes, flops."""
        return pd.DataFrame([(one.op, one.bytes, one.flops) for one in self.launches], columns=["op", "bytes", "flops"])


def _tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor) and leaf.numel()]


def _bytes(tensors):
    found = {}
    for t in tensors:
        stored = math.prod(size for size, stride in zip(t.shape, t.stride()) if stride)  # an expanded one is small
        key = memory(t)
        found[key] = max(found.get(key, 0), stored * t.itemsize)
    return found


def memory(tensor):
    """What two tensors have in common that share their memory; they must both be alive."""
    return tensor.untyped_storage()._cdata


def _flops(name, read, written):
    if name in MATRIX_PRODUCTS:
        return 2 * written[0].numel() * read[-1].shape[-2]
    return max(t.numel() for t in read + written)


def seconds(frame, gpu="H100"):
    """The least time of each launch on the roofline: that of its bytes or that of its operations, the longer one."""
    bandwidth, peak = GPUS[gpu]
    return (frame["bytes"] / bandwidth).combine(frame["flops"] / peak, max)


# programs -------------------------------------------------------------------------------------------------------------


def add_rms_norm_steps(x, residual, weight, eps=1e-6):
    """Addition and RMSNorm, an operation of torch each: {name: tensor}, in the order in which they come."""
    found = {"x": x} if residual is None else {"x": x, "r": residual}
    total = x if residual is None else found.setdefault("s", x + residual)
    square = found.setdefault("s²", total * total)
    mean = found.setdefault("mean", square.mean(-1, keepdim=True))
    rstd = found.setdefault("rstd", torch.rsqrt(mean + eps))
    x_hat = found.setdefault("x̂", total * rstd)
    return found | {"w": weight, "y": x_hat * weight}


def by_steps(x, residual, weight):
    found = add_rms_norm_steps(x, residual, weight)
    return found["y"], found.get("s", x)


def norm_in_one(x, residual, weight):
    """An addition, and a norm that is a single kernel already; torch's layer norm without a mean to subtract moves the
    same bytes and does run as one operation on every device."""
    total = x + residual
    return F.layer_norm(total, total.shape[-1:], weight), total


def block(x, residual, weights, add_norm, attend):
    """A Pre-Norm block of a Transformer, forward: twice addition, norm and branch. Returns the branch, the stream."""
    y, residual = add_norm(x, residual, weights["norm"])
    x = attend(*(y @ weights[name] for name in ("query", "key", "value"))) @ weights["out"]
    y, residual = add_norm(x, residual, weights["norm"])
    return F.gelu(y @ weights["up"]) @ weights["down"], residual


def count_block(add_norm, width, batch=8, length=2048):
    """`Counted.frame` of `block` in bf16. The rows of additions and norms have `op` "add + norm". Attention is entered
    as what a fused one is by its definition (Dao et al. 2022): a launch that reads q, k, v and writes the result."""
    like = {"dtype": torch.bfloat16, "device": "meta"}
    x, residual = (torch.empty(batch, length, width, **like) for _ in range(2))
    shapes = dict.fromkeys(("query", "key", "value", "out"), (width, width))
    shapes |= {"norm": (width,), "up": (width, 4 * width), "down": (4 * width, width)}
    weights, parts = {name: torch.empty(shape, **like) for name, shape in shapes.items()}, []
    with Counted() as counted:

        def marked(*given):
            before = len(counted.launches)
            found = add_norm(*given)
            parts.extend(range(before, len(counted.launches)))
            return found

        def attend(query, key, value):
            out = torch.empty_like(query)
            causal = 2 * batch * length**2 * width  # two products of length × length, half of it masked
            counted.launches.append(Launch("attention", _bytes([query, key, value]), _bytes([out]), causal))
            return out

        block(x, residual, weights, marked, attend)
    frame = counted.frame()
    frame.loc[parts, "op"] = "add + norm"
    return frame


def fused_frame(frame, rows, width, itemsize=2):
    """The same program with each addition and norm in one launch: two matrices in, two out, and the weight."""
    others = frame[frame["op"] != "add + norm"]
    matrix = rows * width
    one = {"op": "add + norm", "bytes": (4 * matrix + width) * itemsize, "flops": 6 * matrix}
    return pd.concat([others, pd.DataFrame([one, one])], ignore_index=True)
