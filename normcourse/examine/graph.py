"""The traced graph as one reads it: what passes values on unchanged, which operations hold weights, where norms are.

A norm is known by what it does to its rows, whatever it is called: out comes the row divided by its root mean square,
with its mean taken out or not, and then a factor and a shift per feature.
"""

import numpy as np
import torch

from .trace import Node

PASSES = {
    *("view", "reshape", "_unsafe_view", "expand", "permute", "transpose", "t", "unsqueeze", "squeeze", "alias"),
    *("detach", "clone", "contiguous", "_to_copy", "lift_fresh", "copy", "_reshape_alias", "view_as", "flatten"),
}
CASTS = {"_to_copy", "clone", "alias", "detach", "contiguous", "copy"}
WEIGHS = {
    *("mm", "addmm", "bmm", "baddbmm", "matmul", "linear", "convolution", "_convolution", "conv2d", "mkldnn_linear"),
    *("addbmm", "addmv", "mv", "einsum", "embedding", "_grouped_mm", "_scaled_mm", "convolution_overrideable"),
}
FUSED_NORMS = {
    "native_layer_norm": "layer_norm",
    "layer_norm": "layer_norm",
    "_fused_rms_norm": "rms_norm",
    "rms_norm": "rms_norm",
    "native_group_norm": "group_norm",
    "group_norm": "group_norm",
    "native_batch_norm": "batch_norm",
    "_native_batch_norm_legit": "batch_norm",
    "_native_batch_norm_legit_no_training": "batch_norm",
    "_batch_norm_with_update": "batch_norm",
    "_batch_norm_no_update": "batch_norm",
    "cudnn_batch_norm": "batch_norm",
}
CLOSE = {torch.float16: 1e-2, torch.bfloat16: 4e-2}  # else 1e-3


class Graph:
    """The nodes with their norms made whole. `before[i]`: bits of all nodes that node i was computed from."""

    def __init__(self, nodes, outputs):
        self.nodes = nodes
        consumers = self._consumers(range(len(nodes)))
        self.before = self._ancestors()
        for node in nodes:
            self._find_norm(node, consumers)
        self.before = self._ancestors()
        self.live = 0
        for node in outputs:
            self.live |= self.before[node.index] | 1 << node.index
        self.consumers = self._consumers(n.index for n in nodes if self.live >> n.index & 1)
        self.weights = [n for n in nodes if self.weighs(n)]

    def _consumers(self, indices):
        found = {}
        for i in indices:
            node = self.nodes[i]
            for parent in {o.index for o in node.operands if isinstance(o, Node)}:
                found.setdefault(parent, []).append(node)
        return found

    def _ancestors(self):
        before = []
        for node in self.nodes:
            bits = 0
            for operand in node.operands:
                if isinstance(operand, Node):
                    bits |= before[operand.index] | 1 << operand.index
            before.append(bits)
        return before

    def comes_from(self, node, source):
        return bool(self.before[node.index] >> source.index & 1)

    def weighs(self, node):
        """Whether it multiplies what comes from the inputs with learned weights."""
        return node.active and node.op in WEIGHS and any(isinstance(o, Node) and o.learned for o in node.operands)

    def weights_between(self, source, node):
        """The products with weights on the way from one node to another."""
        return [
            w
            for w in self.weights
            if source.index < w.index <= node.index
            and self.comes_from(w, source)
            and (w is node or self.comes_from(node, w))
        ]

    def step_up(self, node):
        """(what it passes on, factor, None or "scalar" or "vector" where the factor is learned), or None."""
        sources = node.sources
        if not node.active or not sources:
            return None
        if node.op in PASSES:
            return sources[0], 1.0, None
        if node.op in ("slice", "native_dropout", "dropout", "constant_pad_nd"):
            same = sources[0].shape == node.shape and node.output == 0
            return (sources[0], 1.0, None) if same else None
        if node.op == "neg":
            return sources[0], -1.0, None
        if len(sources) > 1:
            return None
        others = [o for o in node.operands if o is not sources[0]]
        if node.op == "add" or (node.op == "sub" and node.operands[0] is sources[0]):
            return sources[0], 1.0, None
        if node.op == "mul" or (node.op == "div" and node.operands[0] is sources[0]):
            other = others[0] if others else 1.0
            if isinstance(other, Node):
                value = float(other.sample.mean()) if other.sample is not None else 1.0
                if not other.learned:  # a mask of dropout keeps the mean; a buffer with one number is that number
                    return sources[0], value if other.numel == 1 and node.op == "mul" else 1.0, None
                return sources[0], value, "scalar" if other.numel == 1 else "vector"
            return sources[0], other if node.op == "mul" else 1 / other if other else 1.0, None
        return None

    def walk_up(self, node):
        """(the node that was passed on, the factor on the way, whether it was learned, the nodes passed)."""
        way = self.way_up(node)
        return *way[-1], [node for node, _, _ in way]

    def way_up(self, node):
        """[(node, factor from it to the first, None or how the factor was learned)], from the node itself upwards."""
        way = [(node, 1.0, None)]
        while step := self.step_up(way[-1][0]):
            way.append((step[0], way[-1][1] * step[1], step[2] or way[-1][2]))
        return way

    def readers(self, node):
        """What really uses a node: its consumers, looking through what passes it on."""
        found, waiting = [], [node]
        while waiting:
            at = waiting.pop()
            for consumer in self.consumers.get(at.index, []):
                step = None if consumer.norm else self.step_up(consumer)
                if step and step[0] is at:
                    waiting.append(consumer)
                elif consumer not in found:
                    found.append(consumer)
        return found

    def _find_norm(self, node, consumers):
        if node.op in FUSED_NORMS and node.output == 0 and node.active:
            numbers = [o for o in node.operands if isinstance(o, float)]
            tensors = [o for o in node.operands if isinstance(o, Node)]
            weight = next((o for o in tensors[1:] if o.learned), None)
            eps = next((n for n in reversed(numbers) if n < 0.1), 0.0)
            self._make_norm(node, tensors[0], FUSED_NORMS[node.op], eps, weight)
        elif node.op in ("mul", "div") and len(node.sources) == 2 and len(node.operands) == 2:
            for whole, row in (node.operands, node.operands[::-1] if node.op == "mul" else node.operands):
                if whole.shape == node.shape and self._is_row(row, whole) and not node.norm:
                    self._composed(node, whole, row, consumers)
        elif node.op == "tanh" and (step := self.step_up(node.sources[0])) and step[2] == "scalar":
            end, weight = self._affine(node, consumers)
            if weight is not None:
                self._make_norm(end, step[0], "dynamic_tanh", None, weight)

    def _is_row(self, row, whole):
        shape = (*whole.shape[:-1], 1)
        return row.shape == shape and whole.shape[-1] > 1

    def _composed(self, node, whole, row, consumers):
        centred, weight, x = False, None, whole
        while x.active:
            sources = x.sources
            if x.op in CASTS and sources[0].shape == x.shape:
                x = sources[0]
            elif x.op == "sub" and len(sources) == 2 and self._is_row(sources[1], sources[0]):
                centred, x = True, sources[0]
            elif x.op == "mul" and len(sources) == 1 and any(isinstance(o, Node) and o.learned for o in x.operands):
                weight = next(o for o in x.operands if isinstance(o, Node) and o.learned)
                x = sources[0]
            else:
                break
        if not self.comes_from(row, x) or self._weighted(row, x):
            return
        eps = self._eps(row, x)
        kind = _kind(x, node, weight, centred, eps)
        if kind is None:
            return
        end, after = self._affine(node, consumers)
        self._make_norm(end, x, kind, eps, weight or after, computed_in=row.dtype)

    def _weighted(self, row, x):
        bits = self.before[row.index] & ~self.before[x.index]
        return any(n.op in WEIGHS for n in self.nodes[x.index + 1 : row.index] if bits >> n.index & 1)

    def _eps(self, row, x):
        """The number added on the way from the row's statistics to the factor; 0 where none is."""
        bits = self.before[row.index] | 1 << row.index
        for node in reversed(self.nodes[x.index : row.index + 1]):
            if bits >> node.index & 1 and node.op in ("add", "clamp_min", "clamp") and node.shape[-1:] == (1,):
                for other in node.operands:
                    if isinstance(other, float) and other < 0.1:
                        return other
                    if isinstance(other, Node) and not other.active and other.numel == 1 and other.sample is not None:
                        return float(other.sample)
        return 0.0

    def _affine(self, node, consumers):
        """The end of a norm: what a factor and a shift per feature make of it, and the factor."""
        end, weight, at = node, None, node
        while len(following := consumers.get(at.index, [])) == 1:
            (after,) = following
            others = [o for o in after.operands if isinstance(o, Node) and o is not at]
            if after.op in CASTS and after.shape == at.shape:
                at = after
            elif after.op in ("mul", "add") and len(others) == 1 and others[0].learned and others[0].numel > 1:
                if after.shape != at.shape or (after.op == "mul" and weight is not None):
                    break
                weight = others[0] if after.op == "mul" else weight
                at = end = after
            else:
                break
        return end, weight

    def _make_norm(self, node, x, kind, eps, weight, computed_in=None):
        node.op, node.operands = "norm", [x]
        factor = None if weight is None else weight.sample
        node.norm = {
            "kind": kind,
            "eps": eps,
            "weight": self._written_as(weight),
            "size": node.shape[-1],
            "gain": 1.0 if factor is None else float(factor.square().mean()),
            "computed_in": computed_in or torch.promote_types(x.dtype, torch.float32),  # as torch's own kernels do
        }

    def _written_as(self, weight):
        """ "w" where the factor is a parameter, "1 + w" where it is a parameter and 1, "" where there is none."""
        if weight is None or weight.sample is None:
            return ""
        while weight.op in PASSES and weight.parents:
            weight = self.nodes[weight.parents[0]]
        waiting = [self.nodes[i] for i in weight.parents]
        while waiting:
            leaf = waiting.pop()
            waiting += (self.nodes[i] for i in leaf.parents)
            same = leaf.op == "parameter" and leaf.sample is not None and leaf.sample.shape == weight.sample.shape
            if same and torch.allclose(weight.sample, 1 + leaf.sample, atol=1e-3):
                return "1 + w"
        return "w"


def _kind(x, y, weight, centred, eps):
    """What y has been made of x, by the samples of their rows: a norm's name, or None."""
    if x.sample is None or y.sample is None or x.sample.shape != y.sample.shape or x.sample.dim() != 2:
        return None
    before, after = x.sample.double().cpu().numpy(), y.sample.double().cpu().numpy()  # a tenth of torch's time
    with np.errstate(all="ignore"):
        if weight is not None and weight.sample is not None and weight.sample.dim() == 1:
            after = after / weight.sample.double().cpu().numpy()
        rows = np.isfinite(before).all(-1) & np.isfinite(after).all(-1) & before.any(-1)
        if not rows.any():  # nothing to compare: then by how it was written
            return "layer_norm" if centred else "rms_norm"
        before, after = before[rows], after[rows]
        close = max(CLOSE.get(x.dtype, 1e-3), CLOSE.get(y.dtype, 1e-3))
        size = np.sqrt((after**2).mean(-1, keepdims=True))
        unit = after / np.maximum(size, 1e-30)
        for name in ("layer_norm", "rms_norm")[:: 1 if centred else -1]:
            ours = before - before.mean(-1, keepdims=True) if name == "layer_norm" else before
            rms = np.sqrt((ours**2).mean(-1, keepdims=True))
            ours = ours / rms
            if abs(ours - unit).max() < close * abs(ours).max():
                # ε inside the root, or outside; Bessel's n − 1 is near
                for expected in (rms / np.sqrt(rms**2 + eps), rms / (rms + eps)):
                    if (abs(size / expected - 1) < 0.15).all():
                        return name
                return "l2_norm" if (abs(size * y.shape[-1] ** 0.5 - 1) < 0.01).all() else None
    return None
