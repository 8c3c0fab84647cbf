"""What a graded task is made of, for the learner's check and for the instructor's hidden tests alike. The tasks
themselves are the instructor's; what a learner's check needs of them is recorded as data (`recorded`).

    Task     one thing to write: the right answer, the cases to try, the mistakes people make
    Case     one use of it: what goes in, and whether gradients are asked for
    Answer   what came back

Inputs are data: tensors, numbers, strings, None, `Function`s, and tuples or lists of these. So a case can be sent to
another process, and the learner's code needs to see nothing else.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F

FUNCTIONS = {
    "linear": lambda x, weight: x @ weight.T,
    "tanh": lambda x, weight: torch.tanh(x @ weight.T),
    "relu": lambda x, weight: torch.relu(x @ weight.T),
    "scale": lambda x, factor: x * factor,
    "layer_norm": lambda x, weight=None: F.layer_norm(x, x.shape[-1:], weight),
    "rms_norm": lambda x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6),
    "identity": lambda x: x,
    "attention": lambda x, weight: torch.softmax(x @ weight @ x.mT, -1) @ x,
}


class Function:
    """A function of x that a case hands to the learner's code: the name of one in `FUNCTIONS`, and its tensors."""

    def __init__(self, kind, *tensors):
        self.kind, self.tensors = kind, tensors

    def __call__(self, x):
        return FUNCTIONS[self.kind](x, *self.tensors)

    def __repr__(self):
        return f"Function({self.kind!r}, {len(self.tensors)} tensors)"


@dataclass(frozen=True)
class Case:
    """One use of a function, or of a class.

    zh, en: what this case looks at.
    inputs: name -> value, given by position in this order. The names are for messages only.
    init: for a class, the arguments of its constructor; the inputs then go to the object it makes.
    state: for a class, parameter name -> value, set before the call.
    gradients: compare those of all floating inputs and parameters too, under a random cotangent made from `seed`.
    rounding: relative error allowed, instead of that of `ROUNDING`.
    dtype: of the results, a tuple where they differ; without it that of the first floating input. Numbers are compared
        as numbers.
    device: "meta" runs it without numbers: shapes, dtype and device only.
    """

    zh: str
    en: str
    inputs: dict
    init: tuple | None = None
    state: dict | None = None
    gradients: bool = False
    seed: int = 0
    rounding: float | None = None
    dtype: torch.dtype | tuple | None = None
    device: str = "cpu"

    @cached_property
    def floating(self):
        """The floating tensors that go in."""
        every = [*tensors(self.inputs).values(), *tensors(self.state or {}).values()]
        return [tensor for tensor in every if tensor.is_floating_point()]

    @cached_property
    def largest(self):
        """The largest absolute value of all finite numbers that go in; 0 if there is none."""
        numbers = [abs(value) for value in self.inputs.values() if type(value) in (int, float)]
        sizes = [t[t.isfinite()].abs().max().item() for t in self.floating if t.isfinite().any()]
        return max([*numbers, *sizes], default=0.0)


@dataclass(frozen=True)
class Mistake:
    """A wrong version that people write, and what to tell somebody whose numbers are the same as its."""

    wrong: object
    zh: str
    en: str


@dataclass(frozen=True)
class Task:
    """One thing to write.

    name: the key, and what the cell's marker says: `# EXERCISE: name`.
    right: the right function or class. It is called with all inputs in fp64, unless `widened` is False.
    visible: generator -> the `Case`s that the learner's check tries, the first being the plain definition.
    mistakes: the `Mistake`s, the likelier ones first.
    without: names of torch functions and methods that must not be called, whatever their alias. In the judge what one
        task forbids is closed for those after it, too.
    only: names of the torch functions and methods that may be called, if not all: for Triton kernels, see `launches`.
        Memory that torch hands out is then filled with NaN, and more of it follows, see `rules.guarded`.
    closed: modules and packages whose functions must not be called, such as "normcourse.norms".
    widened: whether `right` gets all inputs in fp64; False where their dtypes are part of the task.
    cases: generator -> the `Case`s of the hidden tests. The first is again the plain definition: without it there are
        no points.
    points: what the task is worth.
    seconds: for all cases together, in the judge.
    varies: {a parameter of `right`: the defaults it has in the variants of the task}; without variants it has its own.
    constants: {parameter: default}, where this is a variant.
    """

    name: str
    right: object
    visible: object
    mistakes: tuple = ()
    without: tuple = ()
    only: tuple = ()
    closed: tuple = ()
    widened: bool = True
    cases: object = None
    points: int = 0
    seconds: float = 5.0
    varies: dict = field(default_factory=dict)
    constants: dict = field(default_factory=dict)


@dataclass
class Answer:
    """What came back.

    results: a list of tensors. numbers: which of them were plain numbers. kind: what was returned, as in "2 tensors".
    gradients: name -> tensor. changed: names of inputs that were written to. error: what was raised, `Type: message`.
    """

    results: list = field(default_factory=list)
    numbers: list = field(default_factory=list)
    kind: str = ""
    gradients: dict = field(default_factory=dict)
    changed: list = field(default_factory=list)
    error: str | None = None


def tensors(value, name="", found=None):
    """The tensors in a value by name, those in a list as name[0], name[1] …, those in a `Function` alike."""
    found = {} if found is None else found
    if isinstance(value, torch.Tensor):
        found[name] = value
    elif isinstance(value, dict):
        for key, part in value.items():
            tensors(part, f"{name}.{key}" if name else key, found)
    elif isinstance(value, (tuple, list, Function)):
        for i, part in enumerate(value.tensors if isinstance(value, Function) else value):
            tensors(part, f"{name}[{i}]", found)
    return found


def convert(value, change):
    """The same value with `change` applied to each tensor in it."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: convert(part, change) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(convert(part, change) for part in value)
    if isinstance(value, Function):
        return Function(value.kind, *(change(tensor) for tensor in value.tensors))
    return value
