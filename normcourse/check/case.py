"""What a graded task is made of, for the learner's check and for the instructor's hidden tests alike. The tasks
themselves are the instructor's (`hidden`); what a learner's check needs of them is recorded as data (`recorded`).

    Task    one thing to write: the right answer, the cases to try, the mistakes people make
    Case    one use of it: what goes in, and whether gradients are asked for
    answer  uses a function or class as a case says and collects what comes back
    compare says in words how an answer differs from the right one, or None

Inputs are data: tensors, numbers, strings, None, `Function`s, and tuples or lists of these. So a case can be sent to
another process, and the learner's code needs to see nothing else.
"""

import contextlib
import os
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

PACKAGE = Path(__file__).parents[1]
LIBRARIES = tuple(str(Path(np.__file__).parents[1] / name) + os.sep for name in ("numpy", "pandas", "scipy"))

# The relative error that rounding may leave, by the dtype of the result. In half precision: one rounding of a result
# computed in fp32, or two in a row (as Llama does before the weight), but not a sum taken in half precision.
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1.5 * 2**-10, torch.bfloat16: 1.5 * 2**-7}

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


GUARD = 128  # elements behind a tensor
UNWRITTEN = ("empty", "empty_like", "new_empty", "zeros", "zeros_like", "new_zeros")
PAST_THE_END = "a store went past the end of its tensor: is its mask missing?"


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
    only: names of the torch functions and methods that may be called, if not all: for kernels. Memory that torch hands
        out is then filled with NaN, and more of it follows, see `_guarded`.
    closed: modules and packages whose functions must not be called, such as "normcourse.norms".
    widened: whether `right` gets all inputs in fp64; False where their dtypes are part of the task.
    cases: generator -> the `Case`s of the hidden tests. The first is again the plain definition: without it there are
        no points.
    points: what the task is worth.
    seconds: for all cases together, in the judge.
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


@dataclass(frozen=True)
class Difference:
    """Why an answer is not the right one.

    where: "error", "kind", "shape", "dtype", "device", "values", "gradients" or "changed".
    part: which result ("0", "1" …) or whose gradient, where it is one.
    """

    where: str
    zh: str
    en: str
    part: str | None = None


class ForbiddenCall(Exception):
    """The task is to be solved without what was called."""


def files(modules):
    """How the paths of the files of modules and packages of this course begin."""
    paths = [str(PACKAGE.parent.joinpath(*module.split("."))) for module in modules]
    return tuple(f"{path}{end}" for path in paths for end in (".py", os.sep))


@contextlib.contextmanager
def rules(task):
    """Inside, calling what the task forbids raises `ForbiddenCall`, whatever name it goes by."""

    given = []  # memory that a kernel may write to
    without, only, closed = frozenset(task.without), frozenset(task.only), files(task.closed)

    class Without(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            called = getattr(function, "__name__", "").split(".")[0]  # "layer_norm.default" is one, too
            name = called.strip("_")
            if name in without or (only and (name not in only or called == "__float__")):  # x.float(), but no float(x)
                raise ForbiddenCall(name)
            result = function(*args, **(kwargs or {}))
            if only and name in UNWRITTEN and result.numel() and result.is_floating_point():
                result = _guarded(result.fill_(torch.nan) if "empty" in name else result)
                given.append(result)
            return result

    def watch(frame, event, _):
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if event != "call" or name == "<module>":
            return
        plainly = name.strip("_").removeprefix("nan")
        if plainly in without and file.startswith(LIBRARIES):
            raise ForbiddenCall(f"numpy.{plainly}")
        if file.startswith(closed):
            module = ".".join(Path(file).relative_to(PACKAGE.parent).with_suffix("").parts)
            raise ForbiddenCall(module if name.startswith("_") else f"{module}.{name}")

    before = sys.getprofile()
    if closed or without:
        sys.setprofile(watch)  # of this thread only: explorers go on drawing in theirs
    try:
        with Without():
            yield
        if any(not _behind(tensor).isnan().all() for tensor in given):
            raise IndexError(PAST_THE_END)
    finally:
        sys.setprofile(before)


def _guarded(tensor):
    """The same values, followed in memory by NaN: what a kernel reads or writes past the end shows."""
    memory = tensor.new_full((tensor.numel() + GUARD,), torch.nan)
    memory[: tensor.numel()] = tensor.flatten()
    return memory[: tensor.numel()].view(tensor.shape)


def _behind(tensor):
    return tensor.as_strided((GUARD,), (1,), tensor.storage_offset() + tensor.numel())


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


@torch.enable_grad()
def answer(target, case, task=None):
    """Use a function or class as the case says, under the rules of a task. What it raises becomes `Answer.error`."""

    def fresh(tensor):
        tensor = tensor.detach().clone().to(case.device)
        if task and task.only and tensor.is_floating_point():
            tensor = _guarded(tensor)
        return tensor.requires_grad_(case.gradients and tensor.is_floating_point())

    inputs = convert(case.inputs, fresh)
    leaves = tensors(inputs)
    before = {name: tensor.detach().clone() for name, tensor in leaves.items()}
    collected = Answer()
    try:
        with rules(task) if task else contextlib.nullcontext():
            function = target if case.init is None else target(*case.init)
        if case.state is not None:
            leaves = leaves | _set_parameters(function, convert(case.state, fresh))
        with rules(task) if task else contextlib.nullcontext():
            returned = plain(function(*inputs.values()))
        collected.kind = kind(returned)
        results = [result for result, _ in flatten(returned)]
        collected.results = [result.detach() for result in results]
        collected.numbers = [number for _, number in flatten(returned)]
        if case.gradients:
            collected.gradients = _gradients(results, leaves, case.seed)
    except Exception as error:  # also NotImplementedError of an unedited stub
        collected.error = f"{type(error).__name__}: {error}"
    if case.device != "meta":
        after = {name: plain(leaves[name]) for name in before}  # its methods may be the learner's by now
        unchanged = {
            name: torch.equal(tensor.nan_to_num(), after[name].detach().nan_to_num()) for name, tensor in before.items()
        }
        collected.changed = [name for name, same in unchanged.items() if not same]
        if not case.gradients:
            collected.changed += [f"{name}.requires_grad" for name, leaf in leaves.items() if leaf.requires_grad]
    return collected


def right_answer(task, case):
    """What should come back: the task's own answer, computed in fp64."""
    wide = lambda tensor: tensor.double() if tensor.is_floating_point() else tensor  # noqa: E731
    if task.widened:
        case = replace(case, inputs=convert(case.inputs, wide), state=convert(case.state, wide))
    return answer(task.right, case)


def plain(returned):
    """The same in types of Python and torch alone, so that no code of the learner's runs when it is looked at."""
    if isinstance(returned, torch.Tensor):
        with torch._C.DisableTorchFunction():
            return torch.Tensor.as_subclass(returned, torch.Tensor)
    if isinstance(returned, (bool, int, float)):
        return float(returned)
    if isinstance(returned, (tuple, list)):
        return (tuple if isinstance(returned, tuple) else list)(plain(part) for part in returned)
    return np.asarray(returned) if hasattr(returned, "__array__") else returned


def flatten(returned):
    """What came back as a list of (tensor, whether it is a number): numbers become fp64 tensors without dimensions, and
    a list of numbers one tensor. What is none of these (None, a string) leaves an empty list."""
    if isinstance(returned, torch.Tensor):
        return [(returned, False)]
    if isinstance(returned, (bool, int, float)):
        return [(torch.tensor(float(returned), dtype=torch.float64), True)]
    if hasattr(returned, "__array__"):
        return [(torch.as_tensor(returned), False)]
    if isinstance(returned, (tuple, list)):
        parts = [pair for part in returned for pair in flatten(part)]
        if isinstance(returned, list) and parts and all(number and not part.dim() for part, number in parts):
            return [(torch.stack([tensor for tensor, _ in parts]), True)]
        return parts
    return []


def kind(returned):
    """In words what a function returned: "tensor", "number", "3 tensors", "tuple of 2", "NoneType" …"""
    if isinstance(returned, torch.Tensor):
        return "tensor"
    if isinstance(returned, (bool, int, float)):
        return "number"
    if isinstance(returned, (tuple, list)):
        kinds = {kind(part) for part in returned}
        return f"{len(returned)} {kinds.pop()}s" if kinds in ({"tensor"}, {"number"}) else _of(returned)
    return type(returned).__name__


def _of(returned):
    return f"{'tuple' if isinstance(returned, tuple) else 'list'} of {len(returned)}"


def _in_chinese(kind):
    for english, chinese in (
        (r"(\d+) tensors", r"\1 个张量"),
        (r"(\d+) numbers", r"\1 个数"),
        (r"(tuple|list) of (\d+)", r"\2 项的 \1"),
        (r"^tensor$", "一个张量"),
        (r"^number$", "一个数"),
    ):
        kind = re.sub(english, chinese, kind)
    return kind


def compare(got, want, case):
    """None if `got` is right, else the first `Difference` from `want`, the answer in fp64."""
    return next(differences(got, want, case), None)


def differences(got, want, case):
    """Every `Difference` of an answer from the right one."""
    if got.error is not None:
        words = got.error.rstrip(".。!")
        yield Difference("error", f"出错了：{words}", f"it raised {words}")
        return
    if want.error is not None:
        raise RuntimeError(f"the task's own answer fails on the case “{case.en}”: {want.error}")
    if len(got.results) != len(want.results) and all(want.numbers):  # numbers in a tuple, a list or a tensor
        count = [sum(result.numel() for result in collected.results) for collected in (got, want)]
        got, want = (_joined(got), _joined(want)) if count[0] == count[1] else (got, want)
    if len(got.results) != len(want.results) or (want.kind, got.kind) == ("tensor", "1 tensors"):
        yield _wrong_kind(got.kind, want.kind)
        return
    for index, (mine, exact, number) in enumerate(zip(got.results, want.results, want.numbers)):
        several = len(want.results) > 1
        which = (f"第 {index + 1} 个结果", f"result {index + 1}") if several else ("结果", "the result")
        dtype = case.dtype[index] if isinstance(case.dtype, tuple) else case.dtype or _first_dtype(case)
        wrong = _wrong_result(mine, exact, number, dtype, case, *which)
        if wrong:
            yield replace(wrong, part=str(index))
    given = tensors(case.inputs) | tensors(case.state or {})
    for name, exact in want.gradients.items():
        mine, leaf = got.gradients.get(name), given.get(name)
        if mine is not None and leaf is not None and mine.dtype != leaf.dtype:
            zh, en = f"{name} 的梯度是 {mine.dtype}，应为 {leaf.dtype}", f"the gradient of {name} is {mine.dtype}"
            yield Difference("gradients", zh, f"{en}, expected {leaf.dtype}", name)
            continue
        if mine is None or mine.shape != exact.shape or (exact.any() and not mine.any()):
            zh = f"{name} 没有梯度：计算图断了（.detach()、.item()、no_grad、torch.tensor 或 NumPy），或者没有用到它"
            en = f"{name} gets no gradient: it is not used, or the graph is cut (.detach(), .item(), no_grad, NumPy)"
            yield Difference("gradients", zh, en, name)
            continue
        wrong = _difference(mine, exact, case.rounding)
        if wrong:
            yield Difference(
                "gradients", f"{name} 的梯度不对：{wrong[0]}", f"the gradient of {name} is off: {wrong[1]}", name
            )
    written = [name for name in got.changed if not name.endswith(".requires_grad")]
    if written:
        names = ", ".join(written)
        yield Difference("changed", f"你的代码改写了输入 {names}", f"your code writes to its input {names}")
    elif got.changed:
        name = got.changed[0].removesuffix(".requires_grad")
        zh = f"你的代码给输入 {name} 打开了 requires_grad，再次使用它时梯度会累加：先取副本，{name}.detach().clone()"
        en = f"your code turns on requires_grad on its input {name}, where gradients pile up from call to call: "
        yield Difference("changed", zh, f"{en}work on a copy, {name}.detach().clone()")


def _joined(collected):
    """The same answer with all its results, which are numbers, in one tensor."""
    together = torch.cat([result.reshape(-1).double() for result in collected.results])
    return replace(collected, results=[together], numbers=[True])


def _wrong_kind(got, want):
    if got == "NoneType":
        zh = "函数没有返回值（None）：是不是只 print 了，没有 return？"
        return Difference("kind", zh, "the function returned nothing (None): is a return missing?")
    if got == "1 tensors":
        zh = "返回的是只装着一个张量的元组或列表，要的是张量本身：取 [0]"
        return Difference("kind", zh, "it returned a tuple or list with one tensor; the tensor itself is due: take [0]")
    return Difference(
        "kind", f"返回了 {_in_chinese(got)}，应为 {_in_chinese(want)}", f"it returned {got}; expected {want}"
    )


def _wrong_result(mine, exact, number, dtype, case, zh, en):
    """The first `Difference` of one result, whose name in both languages is zh and en."""
    if mine.shape != exact.shape and not (number and mine.numel() == exact.numel()):
        given, due = tuple(mine.shape), tuple(exact.shape)
        return Difference("shape", f"{zh}的形状是 {given}，应为 {due}", f"{en} has shape {given}; expected {due}")
    if not number and exact.is_floating_point() and dtype is not None and mine.dtype != dtype:
        return Difference(
            "dtype", f"{zh}的数据类型是 {mine.dtype}，应为 {dtype}", f"{en} is {mine.dtype}; expected {dtype}"
        )
    if mine.device.type != case.device:
        words = (
            f"{zh}在 {mine.device} 上，输入在 {case.device} 上",
            f"{en} is on {mine.device}, the input on {case.device}",
        )
        return Difference("device", *words)
    if number and mine.dtype in (torch.float16, torch.bfloat16):  # a number has no dtype of its own to be rounded to
        mine = mine.float()
    wrong = None if case.device == "meta" else _difference(mine.reshape(exact.shape), exact, case.rounding)
    return wrong and Difference("values", f"{zh}的数值不对：{wrong[0]}", f"{en} is off: {wrong[1]}")


def same_part(one, other, part):
    """Whether two answers agree in one result ("0", "1" …) or in the gradient of this name."""
    pair = [
        a.gradients.get(part) if not part.isdigit() else dict(enumerate(a.results)).get(int(part)) for a in (one, other)
    ]
    return None not in pair and _same(*pair)


def same_answer(one, other):
    """Whether two answers are the same up to rounding: then they come from the same formula."""
    if one.error is not None or other.error is not None:
        return one.error == other.error
    if one.changed != other.changed or set(one.gradients) != set(other.gradients):
        return False
    if len(one.results) != len(other.results):
        return False
    pairs = [*zip(one.results, other.results), *((one.gradients[n], other.gradients[n]) for n in one.gradients)]
    return all(_same(*pair) for pair in pairs)


def _same(a, b):
    if (a.shape, a.dtype, a.device) != (b.shape, b.dtype, b.device):
        return False
    return a.is_meta or _difference(a, b.double(), 1e-5 if a.dtype == torch.float32 else None) is None


def _set_parameters(module, state):
    """Put the leaves of `state` in the place of the module's parameters, and return them by name."""
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"calling the class gave {type(module).__name__}; expected a torch.nn.Module")
    known = dict(module.named_parameters())
    if set(known) != set(state):
        raise AttributeError(f"the parameters are {sorted(known)}; expected {sorted(state)}")
    for name, tensor in state.items():
        if known[name].shape != tensor.shape:
            raise ValueError(
                f"the parameter {name} has shape {tuple(known[name].shape)}; expected {tuple(tensor.shape)}"
            )
        *path, last = name.split(".")
        owner = module.get_submodule(".".join(path))
        owner._parameters[last] = torch.nn.Parameter(tensor.detach(), requires_grad=tensor.requires_grad)
    return dict(module.named_parameters())


def _gradients(results, leaves, seed):
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    for result in results:
        cotangent = torch.randn(result.shape, generator=generator, dtype=torch.float64)
        if result.requires_grad:
            total = total + (result.double() * cotangent).sum()
    floating = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    if not isinstance(total, torch.Tensor):
        return {name: torch.zeros_like(leaf) for name, leaf in floating.items()}
    gradients = torch.autograd.grad(total, [*floating.values()], allow_unused=True)
    return {n: torch.zeros_like(leaf) if g is None else g for (n, leaf), g in zip(floating.items(), gradients)}


def _first_dtype(case):
    return next((t.dtype for t in tensors(case.inputs).values() if t.is_floating_point()), None)


def _difference(mine, exact, rounding):
    """None, or the place where two tensors differ most, in both languages."""
    if not exact.is_floating_point():
        exact, rounding = exact.double(), 0.0
    if rounding is None:
        rounding = ROUNDING.get(mine.dtype, ROUNDING[torch.float64])
    mine, half = mine.double(), mine.dtype in (torch.float16, torch.bfloat16)
    finite = exact.isfinite()
    if not torch.equal(mine.isfinite(), finite) or not torch.equal(mine.isnan(), exact.isnan()):
        worst = (mine.isfinite() != finite).long().flatten().argmax().item() if exact.dim() else 0
    else:
        size = exact[finite].abs().max().item() if finite.any() else 0.0
        elementwise = rounding * exact.abs() + ROUNDING[torch.float32] * size
        allowed = elementwise if half else exact.new_full(exact.shape, rounding * size)
        excess = torch.where(finite, (mine - exact).abs() - allowed - 1e-300, exact.new_zeros(()))
        if not (excess > 0).any():
            return None
        worst = excess.flatten().argmax().item()
    place = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), exact.shape)) if exact.dim() else ()
    at = f"[{', '.join(map(str, place))}]" if place else ""
    pair = mine.flatten()[worst].item(), exact.flatten()[worst].item()
    numbers = [f"{value:.6g}" for value in pair]
    if numbers[0] == numbers[1]:  # what differs are the digits after these
        numbers = [f"{value:.12g}" for value in pair]
    hint = "", ""
    if rounding == ROUNDING[torch.float64] and abs(pair[0] - pair[1]) < 1e-5 * exact.abs().max():
        hint = "；看来有一步用了 fp32", "; one step seems to be in fp32 (.float(), torch.tensor, torch.zeros)"
    zh, en = f"{at} 处是" if at else "得到", f"{at} is" if at else "it is"
    return f"{zh} {numbers[0]}，应为 {numbers[1]}{hint[0]}", f"{en} {numbers[0]}, expected {numbers[1]}{hint[1]}"
