"""What a model computes, operation by operation, as a graph: written down while it runs on real values.

The mode sees the operators below autograd, so that modules, functions, in-place operations and custom autograd
functions look alike. A tensor is known by the memory it lies in. Whatever is done here is done at every operation of
the model, so that values are looked at only where the graph will ask for them.
"""

import functools
from dataclasses import dataclass, field

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROWS = 8  # of a tensor are kept, as a sample of its values
FROM_NOTHING = ("empty", "zeros", "ones", "full", "rand", "new_", "arange", "bernoulli_", "zero_", "fill_", "uniform_")
DRAWN = {"normal_", "random_"}
FUSED_ADDS = {"addmm", "baddbmm", "addbmm", "addmv"}  # with an addition before the product
READ = {  # what a norm written in several operators begins with: the graph looks at what they are given
    *("pow", "square", "abs", "sum", "mean", "var", "var_mean", "std", "std_mean", "norm", "linalg_vector_norm"),
    *("_to_copy", "clone", "alias", "detach", "contiguous", "copy"),
}


@dataclass(eq=False, slots=True)
class Node:
    """A tensor of the run.

    op: the operator that made it, "input", "parameter" or "constant". operands: the nodes it was made from, and
    numbers, in the operator's order. active: depends on the model's inputs. learned: on parameters and not on inputs.
    rows: some of its rows. tensor: all of it, where it is not active. variances: of the operands of an addition,
    {index: variance}.
    """

    index: int
    op: str
    operands: list
    shape: tuple
    active: bool = False
    learned: bool = False
    block: int | None = None
    dtype: torch.dtype | None = None
    output: int = 0
    rows: torch.Tensor | None = None
    tensor: torch.Tensor | None = None
    alpha: float = 1.0
    variances: dict = field(default_factory=dict)
    norm: dict | None = None

    @property
    def sample(self):
        """Some of its rows in fp32, or None."""
        if self.tensor is not None:
            self.rows, self.tensor = _sample(self.tensor.detach()), None
        if self.rows is not None and self.rows.dtype != torch.float32:
            self.rows = self.rows.float()
        return self.rows

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
    """Writes `nodes`. `block`: the number of the block that runs, set from outside."""

    def __init__(self, model, inputs):
        super().__init__()
        self.nodes, self.block = [], None
        self.places, self.alive = {}, {}  # storage -> {place in it: node}; references that keep addresses unique
        self.parameters = {_storage(p) for p in model.parameters()}
        self.inputs = {_storage(t) for t in tree_leaves(inputs) if isinstance(t, torch.Tensor)}

    @classmethod
    def _should_skip_dynamo(cls):  # torch would put a wrapper around the next method that takes longer than its work
        return False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        op, in_place, made_from_nothing, read = _operator(function)
        operands, active = [], []
        for leaf in () if made_from_nothing else _leaves(args, kwargs):
            if isinstance(leaf, torch.Tensor):
                node = self.find(leaf)
                operands.append(node)
                if node.active and leaf.is_floating_point():
                    active.append((node, leaf))
            elif isinstance(leaf, (int, float)) and not isinstance(leaf, bool):
                operands.append(float(leaf))
        products = len(active) > 1 and op in ("mul", "div")  # of a row and its statistic, or of a gate and a state
        for node, leaf in active if read or products else ():
            if node.rows is None:
                node.rows = _sample(leaf)
        if in_place and op == "copy":
            operands = operands[1:2]
        variances = {}
        if len(active) > 1 and op in ("add", "sub") and active[0][1].shape == active[1][1].shape:
            variances = {node.index: _variance(leaf) for node, leaf in active if leaf.numel() > 1}
        out = function(*args, **kwargs)
        if op in FUSED_ADDS and operands[0].active:
            product = self._node(op, operands[1:], out)
            operands, op = [operands[0], product], "add"
        alpha = float(kwargs.get("alpha", 1) or 1)
        for position, tensor in enumerate([out] if isinstance(out, torch.Tensor) else _tensors(out)):
            node = self._node(op, operands, tensor, position)
            node.alpha, node.variances = alpha, variances
            if products:
                node.rows = _sample(tensor)
            self._place(node, tensor, in_place)
        return out

    def find(self, tensor):
        """The node of a tensor."""
        storage = _storage(tensor)
        if places := self.places.get(storage):
            if (node := places.get((tensor.storage_offset(), tensor.shape, tensor.stride()))) is not None:
                return node
            same = [node for node in places.values() if node.numel == tensor.numel()]
            if same:  # the same memory under another shape, which no operator told of
                return same[-1]
        op = "parameter" if storage in self.parameters else "input" if storage in self.inputs else "constant"
        node = self._node(op, [*places.values()][-1:] if places else [], tensor)
        self._place(node, tensor)
        return node

    def _node(self, op, operands, tensor, output=0):
        active = learned = False
        for operand in operands:
            if isinstance(operand, Node):
                active, learned = active or operand.active, learned or operand.learned
        active = active or op == "input"
        learned = not active and (learned or op == "parameter")
        node = Node(len(self.nodes), op, operands, tensor.shape, active, learned, self.block, tensor.dtype, output)
        if not active and tensor.is_floating_point() and tensor.numel():
            node.tensor = tensor
        self.nodes.append(node)
        return node

    def _place(self, node, tensor, rewrites=False):
        storage, where = _storage(tensor), (tensor.storage_offset(), tensor.shape, tensor.stride())
        if storage not in self.alive:
            self.alive[storage], self.places[storage] = StorageWeakRef(tensor.untyped_storage()), {}
        places = self.places[storage]
        if rewrites:  # other views of this memory have changed with it
            for other, old in list(places.items()):
                if other != where and old.active and node.active:
                    changed = Node(len(self.nodes), "written", [old, node], old.shape, True, block=self.block)
                    changed.dtype, changed.rows = old.dtype, old.rows
                    self.nodes.append(changed)
                    places[other] = changed
        places[where] = node


@functools.cache
def _operator(function):
    """(what the operator is called, whether it is in place, whether it makes its output from nothing, whether the
    values that it is given are looked at)"""
    name = function._schema.name.split("::")[1]
    in_place = name.endswith("_") and not name.endswith("__")
    op = name.rstrip("_") if in_place else name
    return op, in_place, name.startswith(FROM_NOTHING) or name in DRAWN, op in READ


def _leaves(args, kwargs):
    for value in args:
        if isinstance(value, (list, tuple)):
            yield from _leaves(value, {})
        else:
            yield value
    for value in kwargs.values():
        yield from _tensors(value)


def _tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _tensors(inner)


def _storage(tensor):
    return tensor.untyped_storage()._cdata


def _sample(tensor):
    if not tensor.numel():
        return None
    if tensor.dim() > 1:
        rows, features = tensor.shape[-2:]
        tensor = tensor.as_strided((min(rows, ROWS), features), tensor.stride()[-2:], tensor.storage_offset())
    return tensor.clone()


def _variance(tensor):
    centred = tensor.float()
    centred = centred - centred.mean()
    return float(centred.square_().mean())
