"""What a model computes, operation by operation, as a graph: written down while it runs on real values.

The mode sees the operators below autograd, so that modules, functions, in-place operations and custom autograd
functions look alike. A tensor is known by the memory it lies in.
"""

from dataclasses import dataclass, field

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROWS = 8  # of every tensor are kept, as a sample of its values
FROM_NOTHING = ("empty", "zeros", "ones", "full", "rand", "new_", "arange", "bernoulli_", "zero_", "fill_", "uniform_")
FUSED_ADDS = {"addmm", "baddbmm", "addbmm", "addmv"}  # with an addition before the product


@dataclass
class Node:
    """A tensor of the run.

    op: the operator that made it, "input", "parameter" or "constant". operands: indices of the nodes it was made from,
    and numbers, in the operator's order. active: depends on the model's inputs. learned: on parameters and not on
    inputs. sample: some of its rows. variances: of the operands of an addition, {index: variance}.
    """

    index: int
    op: str
    operands: list
    shape: tuple
    active: bool = False
    learned: bool = False
    sample: torch.Tensor | None = None
    block: int | None = None
    dtype: torch.dtype | None = None
    alpha: float = 1.0
    output: int = 0
    variances: dict = field(default_factory=dict)
    norm: dict | None = None

    @property
    def parents(self):
        return [o.index for o in self.operands if isinstance(o, Node)]

    @property
    def sources(self):
        """The operands that depend on the model's inputs."""
        return [o for o in self.operands if isinstance(o, Node) and o.active]

    @property
    def numel(self):
        return int(torch.Size(self.shape).numel())


class Trace(TorchDispatchMode):
    """Writes `nodes`. `block`: the number of the block that runs, set from outside; `paused`: look away."""

    def __init__(self, model, inputs):
        super().__init__()
        self.nodes, self.block, self.paused = [], None, False
        self.places, self.alive = {}, {}  # storage -> {place in it: node}; references that keep addresses unique
        self.parameters = {_storage(p) for p in model.parameters()}
        self.inputs = {_storage(t) for t in tree_leaves(inputs) if isinstance(t, torch.Tensor)}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.paused:
            return function(*args, **kwargs)
        name = function._schema.name.split("::")[1]
        leaves = [*tree_leaves(args), *(v for v in tree_leaves(kwargs) if isinstance(v, torch.Tensor))]
        made_from_nothing = name.startswith(FROM_NOTHING) or name in ("bernoulli_", "normal_", "random_")
        operands = [] if made_from_nothing else [self._operand(leaf) for leaf in leaves]
        operands = [o for o in operands if o is not None]
        if name == "copy_":
            operands = operands[1:2]
        in_place = name.endswith("_") and not name.endswith("__")
        sums = name.strip("_") in ("add", "sub") and sum(isinstance(o, Node) and o.active for o in operands) > 1
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        variances = self._variances(tensors) if sums else {}
        out = function(*args, **kwargs)
        op = name.rstrip("_") if in_place else name
        if op in FUSED_ADDS and operands[0].active:
            product = self._node(op, operands[1:], out, keep=False)
            operands, op = [operands[0], product], "add"
        for position, tensor in enumerate(t for t in tree_leaves(out) if isinstance(t, torch.Tensor)):
            node = self._node(op, operands, tensor, output=position, rewrites=in_place)
            node.alpha, node.variances = float(kwargs.get("alpha", 1) or 1), variances
        return out

    def find(self, tensor):
        """The node of a tensor."""
        return self._operand(tensor)

    def _operand(self, leaf):
        if isinstance(leaf, (int, float)) and not isinstance(leaf, bool):
            return float(leaf)
        if not isinstance(leaf, torch.Tensor):
            return None
        storage = _storage(leaf)
        places = self.places.setdefault(storage, {})
        if (node := places.get(_place(leaf))) is not None:
            return node
        same = [node for node in places.values() if node.numel == leaf.numel()]
        if same:  # the same memory under another shape, which no operator told of
            return same[-1]
        op = "parameter" if storage in self.parameters else "input" if storage in self.inputs else "constant"
        return self._node(op, [*places.values()][-1:], leaf)

    def _node(self, op, operands, tensor, output=0, rewrites=False, keep=True):
        nodes = [o for o in operands if isinstance(o, Node)]
        active = op == "input" or any(o.active for o in nodes)
        learned = not active and (op == "parameter" or any(o.learned for o in nodes))
        node = Node(len(self.nodes), op, operands, tuple(tensor.shape), active, learned, dtype=tensor.dtype)
        node.block, node.output = self.block, output
        if tensor.is_floating_point() and tensor.numel():
            node.sample = _sample(tensor)
        self.nodes.append(node)
        if keep:
            storage, place = _storage(tensor), _place(tensor)
            self.alive.setdefault(storage, StorageWeakRef(tensor.untyped_storage()))
            places = self.places.setdefault(storage, {})
            if rewrites:  # other views of this memory have changed with it
                for other, old in list(places.items()):
                    if other != place and old.active and active:
                        changed = Node(len(self.nodes), "written", [old, node], old.shape, True, block=self.block)
                        changed.dtype, changed.sample = old.dtype, old.sample
                        self.nodes.append(changed)
                        places[other] = changed
            places[place] = node
        return node

    def _variances(self, tensors):
        found = {}
        for tensor in tensors:
            if tensor.is_floating_point() and tensor.numel() > 1:
                found[self._operand(tensor).index] = float(tensor.detach().float().var(unbiased=False))
        return found


def _storage(tensor):
    return tensor.untyped_storage()._cdata


def _place(tensor):
    return tensor.storage_offset(), tuple(tensor.shape), tensor.stride()


def _sample(tensor):
    tensor = tensor.detach()
    while tensor.dim() > 2:
        tensor = tensor[0]
    if tensor.dim() < 2:
        return tensor.to(torch.float32, copy=True)
    return tensor[:ROWS].to(torch.float32, copy=True)
