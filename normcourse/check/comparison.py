"""Says in words how an answer differs from the right one, and whether two answers come from the same formula.

Processors add in different orders, and versions of Python and PyTorch word their errors differently: numbers are
compared with what rounding may leave, errors by their type.
"""

import math
import re
from dataclasses import dataclass, replace

import torch

from .case import tensors
from .errors import explained

# The relative error that rounding may leave, by the dtype of the result. In half precision: one rounding of a result
# computed in fp32, or two in a row (as Llama does before the weight), but not a sum taken in half precision.
HALF = torch.float16, torch.bfloat16
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1.5 * 2**-10, torch.bfloat16: 1.5 * 2**-7}
SAME_FORMULA = 1e-5  # the relative error between two answers by one formula, where it computes in fp32

# Where terms cancel, rounding leaves something of their size, not of the result's: of n terms of size t up to n eps t
# (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2). So many eps of the inputs pass for 0.
TERMS = 32


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
        yield Difference("error", *explained(got.error))
        return
    if want.error is not None:
        raise RuntimeError(f"the task's own answer fails on the case “{case.en}”: {want.error}")
    if len(got.results) != len(want.results) and all(want.numbers):  # numbers in a tuple, a list or a tensor
        count = [sum(result.numel() for result in collected.results) for collected in (got, want)]
        got, want = (_joined(got), _joined(want)) if count[0] == count[1] else (got, want)
    nothing = not got.results and not got.kind.endswith(" of 0")  # None, say, is no empty list
    if len(got.results) != len(want.results) or nothing or (want.kind, got.kind) == ("tensor", "1 tensors"):
        yield _wrong_kind(got.kind, want.kind)
        return
    first = next((t.dtype for t in tensors(case.inputs).values() if t.is_floating_point()), None)
    for index, (mine, exact, number) in enumerate(zip(got.results, want.results, want.numbers)):
        several = len(want.results) > 1
        which = (f"第 {index + 1} 个结果", f"result {index + 1}") if several else ("结果", "the result")
        dtype = case.dtype[index] if isinstance(case.dtype, tuple) else case.dtype or first
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
        there = mine is not None and mine.shape == exact.shape
        wrong = _difference(mine, exact, case) if there else ("", "")
        if not wrong:
            continue
        if not (there and mine.any()):
            zh = f"{name} 没有梯度：计算图断了（.detach()、.item()、no_grad、torch.tensor 或 NumPy），或者没有用到它"
            en = f"{name} gets no gradient: it is not used, or the graph is cut (.detach(), .item(), no_grad, NumPy)"
            yield Difference("gradients", zh, en, name)
            continue
        zh, en = f"{name} 的梯度不对：{wrong[0]}", f"the gradient of {name} is off: {wrong[1]}"
        yield Difference("gradients", zh, en, name)
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
    empty = torch.empty(0, dtype=torch.float64)  # there may be no results at all
    together = torch.cat([empty, *(result.reshape(-1).double() for result in collected.results)])
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
    wrong = None if case.device == "meta" else _difference(mine.reshape(exact.shape), exact, case, number=number)
    return wrong and Difference("values", f"{zh}的数值不对：{wrong[0]}", f"{en} is off: {wrong[1]}")


def same_part(one, other, case, part):
    """Whether two answers to a case agree in one result ("0", "1" …) or in the gradient of this name."""
    pair = [
        a.gradients.get(part) if not part.isdigit() else dict(enumerate(a.results)).get(int(part)) for a in (one, other)
    ]
    return None not in pair and _same(*pair, case)


def same_answer(one, other, case):
    """Whether two answers to a case are the same up to rounding: then they come from the same formula. Errors are the
    same if their types are."""
    if one.error is not None or other.error is not None:
        return error_type(one) == error_type(other)
    if one.changed != other.changed or set(one.gradients) != set(other.gradients):
        return False
    if len(one.results) != len(other.results):
        return False
    pairs = [*zip(one.results, other.results), *((one.gradients[n], other.gradients[n]) for n in one.gradients)]
    return all(_same(*pair, case) for pair in pairs)


def error_type(answer):
    """The type of the error that was raised, or None."""
    return answer.error and answer.error.partition(":")[0]


def _same(a, b, case):
    if (a.shape, a.dtype, a.device) != (b.shape, b.dtype, b.device):
        return False
    half = a.dtype in (torch.float16, torch.bfloat16)
    narrow = not half and _eps(a, case) == torch.finfo(torch.float32).eps
    return a.is_meta or _difference(a, b.double(), case, SAME_FORMULA if narrow else ROUNDING.get(a.dtype)) is None


def _eps(result, case):
    """Of the dtype that a result was computed in: the least precise around, but fp32 where that is half precision.
    result: None for a number, which could be handed over in any dtype."""
    wide = all(t.dtype == torch.float64 for t in (result, *case.floating) if t is not None)
    return torch.finfo(torch.float64 if wide else torch.float32).eps


def _noise(result, case):
    """What may be left in a result where terms cancel. The size of these is not known: at most that of the inputs, and
    of 1 where they are larger, because a norm, say, first divides by it."""
    return TERMS * _eps(result, case) * min(1.0, case.largest)


def _difference(mine, exact, case, rounding=None, number=False):
    """None, or the place where two tensors differ most, in both languages. rounding: the relative error allowed;
    without it that of the case or of the dtype."""
    if rounding is None:
        rounding = case.rounding
    half = mine.dtype in HALF and any(t.dtype in HALF for t in case.floating)  # the answer does not choose it
    if rounding is None:
        rounding = ROUNDING.get(
            torch.float32 if mine.dtype in HALF and not half else mine.dtype, ROUNDING[torch.float64]
        )
    noise = _noise(None if number else mine, case)
    if not exact.is_floating_point():
        exact, rounding, noise = exact.double(), 0.0, 0.0
    mine = mine.double()
    if exact.numel() and not half:  # nearly always: all finite, and close
        bound = max(rounding * exact.abs().max().item(), noise)
        if bound < math.inf and (mine - exact).abs().max().item() <= bound:
            return None
    finite, infinite = exact.isfinite(), exact.isinf()
    if not torch.equal(mine.isfinite(), finite) or not torch.equal(mine.isnan(), exact.isnan()):
        worst = (mine.isfinite() != finite).long().flatten().argmax().item() if exact.dim() else 0
    elif not torch.equal(mine[infinite], exact[infinite]):  # of the other sign
        worst = (infinite & (mine != exact)).long().flatten().argmax().item() if exact.dim() else 0
    else:
        size = exact[finite].abs().max().item() if finite.any() else 0.0
        elementwise = rounding * exact.abs() + ROUNDING[torch.float32] * size
        allowed = elementwise if half else exact.new_full(exact.shape, rounding * size)
        excess = torch.where(finite, (mine - exact).abs() - allowed.clamp(min=noise), exact.new_zeros(()))
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
