"""One forward and one backward pass of a model, watched block by block."""

import math
import sys
from contextlib import ExitStack, contextmanager, nullcontext

import torch
from torch.utils._pytree import tree_flatten, tree_leaves

from ..i18n import text
from .graph import Graph
from .trace import Trace

NAN = float("nan")
TOGETHER = 2**16  # numbers of states that are measured together: few calls for small ones, and all in the cache


class Run:
    """What one pass left behind: `rows` (one a block, as dicts), `graph`, and `edges`, the nodes at every block's
    ends. Blocks that run several times have several rows."""

    def __init__(self, model, inputs, kwargs, loss, blocks):
        self.model, self.blocks, self.rows = model, blocks, []
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.trace = Trace(model, (inputs, kwargs))
        self.edges, self._open, self._kept, self._seen = [], [], [], {id(b): b for b in blocks}
        self.named = {id(b): list(b.named_parameters()) for b in blocks}
        within = [p for named in self.named.values() for _, p in named]
        self.sizes = dict(zip(map(id, within), _norms(within)))
        inputs, kwargs = _watched(inputs), _watched(kwargs)
        self.given = [t for t in tree_leaves((inputs, kwargs)) if isinstance(t, torch.Tensor)]
        with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
            for block in self._seen.values():
                stack.callback(block.register_forward_pre_hook(self._enter, with_kwargs=True).remove)
                stack.callback(block.register_forward_hook(self._leave, with_kwargs=True).remove)
            with _uncompiled(), self.trace:
                output = model(*inputs, **kwargs)
            with torch.no_grad():
                self._measure()
            if not self.rows:
                raise ValueError(text("这些块一个也没有运行", "none of these blocks was run"))
            tensors = [t for t in tree_leaves(_plain(output)) if isinstance(t, torch.Tensor)]
            self.graph = Graph(self.trace.nodes, [self.trace.find(t) for t in tensors])
            self._backward(output, tensors, loss)

    def _enter(self, module, args, kwargs):
        with _aside():
            self._open.append((module, self.trace.block))
            if len(self._open) > 1:  # a block inside a block is part of it
                return
            leaves = [t for t in tree_leaves(_plain((args, kwargs))) if _is_state(t)]
            if not leaves:
                raise ValueError(text("块的输入里没有浮点张量", "a block got no floating-point tensor"))
            self.trace.block = len(self.rows)
            self._inputs = [leaf.detach().clone() for leaf in leaves], list(map(self.trace.find, leaves))

    def _leave(self, module, args, kwargs, output):
        with _aside():
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
            row = {"block": len(self.rows) + 1, "dtype": str(x.dtype).removeprefix("torch."), "gradient": NAN}
            if not self.rows:
                self.start_variance = float(_wide(start).var(unbiased=False))
            self._kept.append((row, start, x.detach().clone()))
            if sum(x.numel() for _, _, x in self._kept) > TOGETHER:
                self._measure()
            self.edges.append((nodes[same[0]], list(map(self.trace.find, parts)), module))
            self.rows.append(row)
            if parts[0].requires_grad:
                parts[0].register_hook(lambda gradient, row=row: row.update(gradient=_norms([gradient])[0]))

    def _measure(self):
        """The numbers of the states that are kept, those of one shape in one go: small operations are slow."""
        groups = {}
        for kept in self._kept:
            groups.setdefault((kept[1].shape, kept[2].shape), []).append(kept)
        for rows, before, after in (zip(*group) for group in groups.values()):
            before, after = _wide(torch.stack(before)), _wide(torch.stack(after))
            columns = {name: v.tolist() for name, v in {**_states(after), **_changes(before, after)}.items()}
            for i, row in enumerate(rows):
                row.update((name, values[i]) for name, values in columns.items())
        self._kept.clear()

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
            parameters = [id(p) for _, p in self.named[id(block)]]
            gradients = [g for p in parameters if (g := self.gradients.get(p)) is not None]
            row["weight_gradient"] = math.hypot(*_norms(gradients))
            row["weight"] = math.hypot(*map(self.sizes.get, parameters))


def _uncompiled():
    """What is compiled inside the model runs as it was written: its operators are then seen."""
    compiler = "torch._dynamo" in sys.modules  # which takes seconds to load, and nothing is compiled without it
    return torch.compiler.set_stance("force_eager") if compiler else nullcontext()


@contextmanager
def _aside():
    """What the examination itself computes is not the model's."""
    with torch._C._DisableTorchDispatch(), torch.no_grad():
        yield


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


def _norms(tensors):
    """The Euclidean norm of each."""
    dtype = torch.float32 if any(t.device.type == "mps" for t in tensors) else torch.float64
    return [float(n) for n in torch._foreach_norm([t.detach() for t in tensors], 2, dtype=dtype)] if tensors else []


def _states(x):
    """Of states (blocks, …), of what is finite in them: {column: a number for every block}."""
    flat = x.flatten(1)
    total, count = flat.sum(1), torch.full(x.shape[:1], flat.shape[1])
    finite = None
    if not all(map(math.isfinite, total.tolist())):  # looking at every number takes as long as all the rest
        finite = flat.isfinite()
        count, flat = finite.sum(1), flat.where(finite, 0.0)
        total = flat.sum(1)
    mean, rms = total / count, (flat.square().sum(1) / count).sqrt()
    centred = flat - mean[:, None]
    centred = centred if finite is None else centred.where(finite, 0.0)
    largest = flat.abs().amax(1).where(count > 0, NAN)
    found = {"variance": centred.square_().sum(1) / count, "rms": rms, "largest": largest, "outlier": largest / rms}
    return {**found, "alike": _alike(x), "non_finite": flat.shape[1] - count}


def _alike(x):
    """Mean cosine of two positions of a sequence, x being (blocks, batch, positions, features)."""
    if x.dim() != 4 or x.shape[2] < 2:
        return torch.full(x.shape[:1], NAN)
    size = x.square().sum(-1, keepdim=True).sqrt_().clamp_min_(1e-12)
    unit = x / size
    pairs = unit.sum(2).square().sum(-1) - unit.square().sum((2, 3))
    return pairs.mean(1) / (x.shape[2] * (x.shape[2] - 1))


def _changes(before, after):
    """How far states (blocks, …, features) move, over the rows that are finite: {column: a number for every block}."""
    if before.shape != after.shape:
        return dict.fromkeys(("update", "relative_update", "cosine"), torch.full((len(after),), NAN))
    before, after = before.flatten(1, -2), after.flatten(1, -2)
    moved, one, other = ((part**2).sum(-1) for part in (after - before, before, after))
    good = one.isfinite() & other.isfinite()
    cosine = (before * after).sum(-1) / (one * other).clamp_min(1e-32).sqrt()

    def mean(values):
        return values.where(good, 0.0).sum(1) / good.sum(1)

    update = (mean(moved) / before.shape[-1]).sqrt()
    return {"update": update, "relative_update": mean((moved / one).sqrt()), "cosine": mean(cosine)}
