"""What a Transformer keeps between its forward and its backward pass, with and without recomputation, counted."""

import functools

import pandas as pd
import torch
from torch.utils.checkpoint import checkpoint

from ...models import Transformer
from .counting import Counted, memory

BATCH, LENGTH, WIDTH = 2, 32, 32


@functools.cache
def transformer(depth):
    """A Pre-Norm Transformer of width 32; a layer is two blocks, attention and feed-forward."""
    return Transformer(vocabulary=64, width=WIDTH, heads=4, depth=depth, context=LENGTH)


def kept_bytes(forward, model):
    """What `forward()` gives, and the bytes that autograd keeps for the backward pass. Parameters are there anyway."""
    kept, parameters = {}, {memory(p) for p in model.parameters()}

    def keep(tensor):
        if memory(tensor) not in parameters:
            kept[memory(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = forward()
    return out, sum(t.untyped_storage().nbytes() for t in kept.values())


def run(model, x, segment, every=1):
    """The blocks of a model, `segment` layers to a checkpoint (0: none); of the segments only each `every`-th."""
    size = 2 * segment or len(model.blocks)
    for i in range(0, len(model.blocks), size):
        part = torch.nn.Sequential(*model.blocks[i : i + size])
        again = segment and i // size % every == 0
        x = checkpoint(part, x, use_reentrant=False) if again else part(x)
    return x


@functools.lru_cache(maxsize=256)
def recomputed(depth, segment, every=1):
    """One training step: bytes kept at the end of the forward pass, bytes that a segment adds while it is recomputed,
    calls of layers, and operations of the forward pass and of all."""
    model, calls = transformer(depth), []
    x = torch.randn(BATCH, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0), requires_grad=True)
    hooks = [block.register_forward_pre_hook(lambda *_: calls.append(1)) for block in model.blocks]
    try:
        with torch.enable_grad(), Counted() as counted:
            out, kept = kept_bytes(lambda: run(model, x, segment, every), model)
            forward = sum(one.flops for one in counted.launches)
            torch.autograd.grad(out.sum(), [x, *model.blocks.parameters()])
    finally:
        for hook in hooks:
            hook.remove()
    whole = sum(one.flops for one in counted.launches)
    with torch.enable_grad():
        first = torch.nn.Sequential(*model.blocks[: 2 * segment])
        again = kept_bytes(lambda: first(x), model)[1] if segment else 0
    return {"kept": kept, "again": again, "calls": len(calls) / len(model.blocks), "forward": forward, "whole": whole}


def memory_and_work(depth=16, segment=4):
    """Over the layers per segment: what is kept, and at most while a segment is recomputed, as a share of what a step
    without recomputation keeps; and how much more is computed, for the chosen segment."""
    plain, rows = recomputed(depth, 0), []
    layer, stream = recomputed(1, 0)["kept"], BATCH * LENGTH * WIDTH * 4
    for k in range(1, depth + 1):
        if depth % k == 0 or k == segment:
            one = recomputed(depth, k)
            most, law = one["kept"] + one["again"], -(-depth // k) * stream + k * layer
            rows.append((k, one["kept"] / plain["kept"], most / plain["kept"], law / plain["kept"]))
    frame = pd.DataFrame(rows, columns=["layers", "kept", "most", "theory"])
    here = recomputed(depth, segment) if segment <= depth else recomputed(depth, depth)
    more = {"calls": here["calls"], "work": here["whole"] / plain["whole"], "depth": depth}
    return frame.assign(segment=min(segment, depth), **more)
