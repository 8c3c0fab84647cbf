"""One forward and one backward pass of a model, watched block by block."""

import math
from contextlib import ExitStack

import torch
from torch.utils._pytree import tree_flatten, tree_leaves

from ..i18n import text
from .graph import Graph
from .trace import Trace

NAN = float("nan")


class Run:
    """What one pass left behind: `rows` (one a block, as dicts), `graph`, and `edges`, the nodes at every block's
    ends. Blocks that run several times have several rows."""

    def __init__(self, model, inputs, kwargs, loss, blocks):
        self.model, self.blocks, self.rows = model, blocks, []
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.trace = Trace(model, (inputs, kwargs))
        self.edges, self._open, self._seen = [], [], {id(b): b for b in blocks}
        inputs, kwargs = _watched(inputs), _watched(kwargs)
        self.given = [t for t in tree_leaves((inputs, kwargs)) if isinstance(t, torch.Tensor)]
        with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
            for block in self._seen.values():
                stack.callback(block.register_forward_pre_hook(self._enter, with_kwargs=True).remove)
                stack.callback(block.register_forward_hook(self._leave, with_kwargs=True).remove)
            with self.trace:
                output = model(*inputs, **kwargs)
            if not self.rows:
                raise ValueError(text("这些块一个也没有运行", "none of these blocks was run"))
            tensors = [t for t in tree_leaves(_plain(output)) if isinstance(t, torch.Tensor)]
            self.graph = Graph(self.trace.nodes, [self.trace.find(t) for t in tensors])
            self._backward(output, tensors, loss)

    def _enter(self, module, args, kwargs):
        with self._aside():
            self._open.append((module, self.trace.block))
            if len(self._open) > 1:  # a block inside a block is part of it
                return
            leaves = [t for t in tree_leaves(_plain((args, kwargs))) if _is_state(t)]
            if not leaves:
                raise ValueError(text("块的输入里没有浮点张量", "a block got no floating-point tensor"))
            self.trace.block = len(self.rows)
            self._inputs = [leaf.detach().clone() for leaf in leaves], list(map(self.trace.find, leaves))

    def _leave(self, module, args, kwargs, output):
        with self._aside():
            _, self.trace.block = self._open.pop()
            if self._open:
                return
            outputs = [t for t in tree_leaves(_plain(output)) if _is_state(t)]
            if not outputs:
                raise ValueError(text("块的输出里没有浮点张量", "a block returned no floating-point tensor"))
            before, nodes = self._inputs
            same = [i for i, leaf in enumerate(before) if leaf.shape == outputs[0].shape] or [0]
            start = before[same[0]]
            x, parts = outputs[0], outputs[:1]
            if len(outputs) == 2 and outputs[1].shape == x.shape and (len(same) == 2 or not self.rows):
                # a stream in two parts, which the next block adds: what counts is their sum
                start, parts = sum(before[i] for i in same[:2]), outputs
                x = outputs[0].detach() + outputs[1].detach()
            row = {"block": len(self.rows) + 1, **_state(x.detach()), **_change(start, x.detach())}
            row["gradient"] = NAN
            if not self.rows:
                self.start_variance = float(_wide(start).var(unbiased=False))
            self.edges.append((nodes[same[0]], list(map(self.trace.find, parts)), module))
            self.rows.append(row)
            if parts[0].requires_grad:
                parts[0].register_hook(lambda gradient, row=row: row.update(gradient=_norm(gradient)))

    def _aside(self):
        return _Paused(self.trace)

    def _backward(self, output, tensors, loss):
        value = _loss(output, tensors, loss)
        for row in self.rows:
            row.update(weight_gradient=NAN, weight=NAN)
        self.gradients = {}
        if value is None or not value.requires_grad:
            return
        wanted = [*self.parameters, *(t for t in self.given if t.requires_grad)]
        found = torch.autograd.grad(value, wanted, allow_unused=True)
        self.gradients = {id(p): g for p, g in zip(self.parameters, found)}
        for row, (_, _, block) in zip(self.rows, self.edges):
            parameters = list(block.parameters())
            gradients = [g for p in parameters if (g := self.gradients.get(id(p))) is not None]
            row["weight_gradient"] = math.hypot(*map(_norm, gradients)) if gradients else 0.0
            row["weight"] = math.hypot(*(_norm(p.detach()) for p in parameters)) if parameters else 0.0


class _Paused:
    """What the examination itself computes is not the model's."""

    def __init__(self, trace):
        self.trace = trace

    def __enter__(self):
        self.before, self.trace.paused = self.trace.paused, True
        self.grad = torch.no_grad()
        self.grad.__enter__()

    def __exit__(self, *error):
        self.trace.paused = self.before
        self.grad.__exit__(*error)


def _watched(values):
    """The inputs, of which those with numbers take part in the backward pass: so a frozen model has gradients too."""
    leaves, form = tree_flatten(values)
    leaves = [t.detach().requires_grad_() if _is_state(t) else t for t in leaves]
    return torch.utils._pytree.tree_unflatten(leaves, form)


def _plain(value):
    """Outputs of models that are neither tuples nor dicts, as dicts."""
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if not isinstance(value, torch.Tensor) and hasattr(value, "__dict__") and not isinstance(value, torch.nn.Module):
        return {k: v for k, v in vars(value).items() if isinstance(v, (torch.Tensor, tuple, list, dict))}
    return value


def _is_state(value):
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.dim() > 1


def _loss(output, tensors, loss):
    """The loss as given; else the model's own; else a random direction of unit length on its first output."""
    if loss is not None:
        return loss(output)
    own = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    if isinstance(own, torch.Tensor) and own.requires_grad:
        return own
    for tensor in tensors:
        if tensor.is_floating_point() and tensor.requires_grad:
            if tensor.dim() == 0:
                return tensor
            generator = torch.Generator().manual_seed(0)
            direction = torch.randn(tensor.shape, generator=generator)
            direction = (direction / direction.norm()).to(tensor.device)
            return (tensor.float() * direction).sum()
    return None


def _wide(tensor):
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def _norm(tensor):
    return float(_wide(tensor.detach()).norm())


def _state(x):
    wide = _wide(x)
    finite = wide[wide.isfinite()]
    rms = float(finite.square().mean().sqrt()) if finite.numel() else NAN
    largest = float(finite.abs().max()) if finite.numel() else NAN
    return {
        "variance": float(finite.var(unbiased=False)) if finite.numel() else NAN,
        "rms": rms,
        "largest": largest,
        "outlier": largest / rms if rms else NAN,
        "alike": _alike(wide) if x.dim() == 3 else NAN,
        "dtype": str(x.dtype).removeprefix("torch."),
        "non_finite": x.numel() - finite.numel(),
    }


def _alike(x):
    """Mean cosine of two positions of a sequence, x being (batch, positions, features)."""
    unit = torch.nn.functional.normalize(x, dim=-1)
    pairs = unit.sum(1).square().sum(-1) - unit.square().sum((1, 2))
    return float(pairs.mean()) / (x.shape[1] * (x.shape[1] - 1)) if x.shape[1] > 1 else NAN


def _change(before, after):
    if before.shape != after.shape:
        return {"update": NAN, "relative_update": NAN, "cosine": NAN}
    before, after = _wide(before).flatten(0, -2), _wide(after).flatten(0, -2)
    rows = before.isfinite().all(-1) & after.isfinite().all(-1)
    before, after = before[rows], after[rows]
    moved, sizes = (after - before).norm(dim=-1), before.norm(dim=-1)
    return {
        "update": float((after - before).square().mean().sqrt()) if len(before) else NAN,
        "relative_update": float((moved / sizes).mean()) if len(before) else NAN,
        "cosine": float(torch.nn.functional.cosine_similarity(before, after, dim=-1).mean()) if len(before) else NAN,
    }
