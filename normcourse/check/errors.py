"""What an error that a solution raised most likely means, in both languages."""

import re

# What torch and Python say -> (中文, English); {1} is the first number or name that the pattern caught.
LIKELY = (
    (
        r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\) at non-singleton dimension (\d+)",
        "形状对不上：第 {3} 维一个是 {1}，一个是 {2}。求均值、求和时漏了 keepdim=True，或者选错了维？",
        "shapes do not fit: dimension {3} is {1} in one and {2} in the other. Is keepdim=True missing in a mean or "
        "sum, or is it over the wrong dimension?",
    ),
    (
        r"shapes cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)",
        "矩阵乘不起来：左边有 {1} 列，右边有 {2} 行。少了转置（.T），或者左右写反了？",
        "the matrices cannot be multiplied: {1} columns on the left, {2} rows on the right. Is a transpose (.T) "
        "missing, or are they the wrong way round?",
    ),
    (
        r"size mismatch|inconsistent tensor size|Expected size for first two dimensions of batch2",
        "相乘的两个张量形状对不上。少了转置（.T、.mT），或者左右写反了？",
        "the shapes of a product do not fit. Is a transpose (.T, .mT) missing, or are they the wrong way round?",
    ),
    (
        r"expected (scalar type|m1 and m2)|must have the same dtype|dtypes? must be the same|same dtype",
        "相乘的两个张量数据类型不同。先转成同一种，新建的张量写上 dtype=x.dtype。",
        "the factors of a product differ in dtype. Convert them to one, and give new tensors dtype=x.dtype.",
    ),
    (
        r"can't be cast to the desired output type",
        "原地运算（+=、*=）的左边装不下结果的数据类型。写成 y = y + …。",
        "the left side of an in-place operation (+=, *=) cannot hold the dtype of the result. Write y = y + … instead.",
    ),
    (
        r"does not require grad",
        "这里没有计算图可以求梯度。用了 .detach()、.item()、no_grad 或 torch.tensor，或者忘了 requires_grad_()？",
        "there is no graph to take gradients of. Is there a .detach(), .item(), no_grad or torch.tensor on the way, or "
        "is requires_grad_() missing?",
    ),
    (
        r"not have been used in the graph",
        "要求梯度的张量没有参与计算，或者中途被 .detach() 断开了。",
        "a tensor whose gradient is asked for is not used, or cut off by a .detach() on the way.",
    ),
    (
        r"backward through the graph a second time",
        "同一张计算图反向传播了两次。前向重新算一遍，或者第一次写上 retain_graph=True。",
        "one graph is used for two backward passes. Go forward again, or give the first one retain_graph=True.",
    ),
    (
        r"implicitly created only for scalar outputs",
        "对张量（不是一个数）求梯度，要把上游的梯度 dy 也给它。",
        "the gradient of a tensor, not of a number, needs the gradient from above, dy.",
    ),
    (
        r"is invalid for input of size (\d+)",
        "改不成这个形状：一共有 {1} 个数。大小从 x.shape 里取，剩下的一维可以写 -1。",
        "it cannot take that shape: there are {1} numbers. Take the sizes from x.shape; one of them may be -1.",
    ),
    (
        r"view size is not compatible",
        "张量在内存里不连续，view 用不了：换成 reshape。",
        "the tensor is not contiguous, so view will not do: use reshape.",
    ),
    (
        r"Dimension out of range|Dimension specified as",
        "没有这一维。输入的维数不固定：最后一维写成 -1。",
        "there is no such dimension. Inputs differ in how many they have: write -1 for the last.",
    ),
    (
        r"could not infer output dtype|only Tensors of floating point",
        "整数张量不能求平均，也没有梯度：先 .float()。",
        "integers have no mean and no gradient: convert with .float() first.",
    ),
    (
        r"Boolean value of Tensor with more than one value",
        "一整个张量不能当条件。看有没有给，写 is None；逐个元素地选，用 torch.where。",
        "a whole tensor is no condition. To see whether it was given write `is None`; to choose element by element use "
        "torch.where.",
    ),
    (
        r"elements cannot be converted to Scalar|only one element tensors can be converted",
        "把好几个数当成了一个数（float、.item()、max）：先求和或取平均，或者一直用张量来算。",
        "several numbers are taken for one (float, .item(), max): sum or average them first, or stay with tensors.",
    ),
    (
        r"Can't call numpy\(\)",
        "转成 NumPy 会断开计算图：换成 torch 里的同名函数。",
        "NumPy cuts the graph: use torch's function of the same name.",
    ),
    (
        r"NoneType",
        "有个量是 None：没有给的 weight、bias 先用 is None 判断；自己写的函数看看有没有 return。",
        "something is None: test a weight or bias that may be missing with `is None`, and see that your own functions "
        "return something.",
    ),
    (
        r"'torch\.dtype' object is not callable|range\(\) missing",
        "from torch import * 把 Python 自己的 sum、min、max、range、float 等换成了 torch 的：改成 import torch。",
        "from torch import * puts torch's sum, min, max, range, float … in place of Python's own: use import torch.",
    ),
    (
        r"(\w+)\(\): argument '\w+' \(position \d+\) must be Tensor, not (\w+)",
        "torch 的 {1} 只收张量，这里给的是 {2}：先转成张量，或者用 math 和 Python 自己的函数"
        "（写了 from torch import *，sum、min、max 也都是 torch 的）。",
        "torch's {1} takes tensors, and here it got {2}: make a tensor of it, or use math or Python's own function "
        "(after from torch import * even sum, min and max are torch's).",
    ),
    (
        r"(\S+)\(\) (?:takes|got|missing) .*argument",
        "{1} 的参数给得不对。它要是题目的函数，def 那一行不要改；要是别的，看看调用它的地方。",
        "{1} is called with other arguments than it takes. If it is the task's own function, leave the line with def "
        "as it was; otherwise look at the call.",
    ),
    (
        r"Expected all tensors to be on the same device|is not on the expected device",
        "张量不在同一个设备上：新建的张量写上 device=x.device。",
        "the tensors are on different devices: give new ones device=x.device.",
    ),
    (
        r"must have same number of dimensions|The expanded size of the tensor|Sizes of tensors must match",
        "要拼接或展开的张量形状对不上：先把各自的 shape 打印出来看看。",
        "the tensors to join or expand do not fit: print their shapes first.",
    ),
    (
        r"name '(\w+)' is not defined",
        "{1} 没有定义：名字写错了，或者定义它的单元格还没有运行。",
        "{1} is not defined: is it misspelt, or has its cell not been run?",
    ),
)

# What this package itself raises, all in all.
OWN = (
    (
        r"calling the class gave (\S+); expected a torch.nn.Module",
        "调用这个类得到 {1}，应为 torch.nn.Module：是不是没有继承它？",
        "calling the class gave {1}, not a torch.nn.Module: does it inherit from one?",
    ),
    (r"the parameters are (.+); expected (.+)", "参数是 {1}，应为 {2}", "the parameters are {1}; expected {2}"),
    (
        r"the parameter (\S+) has shape (.+); expected (.+)",
        "参数 {1} 的形状是 {2}，应为 {3}",
        "the parameter {1} has shape {2}; expected {3}",
    ),
    (
        r"a store went past the end of its tensor",
        "写到了张量的末尾之外：是不是少了掩码（mask）？",
        "a store went past the end of its tensor: is its mask missing?",
    ),
)


def explained(error):
    """What to say of an error, `Type: message`, as (中文, English): what it likely means, where that is known, and the
    error itself."""
    error = error.rstrip(".。!")
    for pattern, zh, en in OWN:
        if found := re.search(pattern, error):
            return _filled(zh, found), _filled(en, found)
    for pattern, zh, en in LIKELY:
        if found := re.search(pattern, error):
            return f"{_filled(zh, found)}（出错了：{error}）", f"{_filled(en, found)} (It raised {error}.)"
    return f"出错了：{error}", f"it raised {error}"


def _filled(words, found):
    return re.sub(r"\{(\d)\}", lambda place: found[int(place[1])], words)
