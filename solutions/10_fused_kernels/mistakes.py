"""The mistakes that people make in exercise 10."""

import torch
import torch.nn.functional as F

from normcourse.check import Mistake
from normcourse.check.rules import PAST_THE_END

from .tasks import right_triton_rms_norm

MISTAKES = {}

# bytes_moved ---------------------------------------------------------------------------------------------------------


def _bytes(
    steps=7, fused=2, add=3, fused_add=2, per_row=4, weight=1, weight_rows=False, size=None, in_fp32=False, always=None
):
    """The count with mistakes to switch on: matrices moved step by step and fused, and what an addition puts on top."""

    def wrong(rows, columns, bytes_per_element, op, is_fused):
        e = bytes_per_element if size is None else size
        is_fused = is_fused if always is None else always
        matrices = fused if is_fused else steps
        if op == "add_rms_norm":
            matrices += fused_add if is_fused else add
        small = 0 if is_fused else per_row * rows * (4 if in_fp32 else e)
        return e * (matrices * rows * columns + weight * columns * (rows if weight_rows else 1)) + small

    return wrong


MISTAKES["bytes_moved"] = (
    Mistake(
        _bytes(size=1),
        "数的是元素的个数：还要乘以每个元素的字节数。",
        "You count elements; multiply by the bytes per element.",
    ),
    Mistake(_bytes(weight=0), "没有算 weight：它要读一次。", "weight is left out: it is read once."),
    Mistake(
        _bytes(weight_rows=True),
        "weight 每行都算了一次：规定它只从内存读一次。",
        "weight is counted once per row; by the rules it is read from memory only once.",
    ),
    Mistake(
        _bytes(weight=2),
        "weight 算了两次：它只读，不写。",
        "weight is counted twice; it is read, and not written.",
    ),
    Mistake(
        _bytes(per_row=0),
        "没有算每行一个的数（mean、rstd）：第 2 步写，第 3 步读和写，第 4 步读，共 4 次。",
        "The numbers that come one per row are left out (mean, rstd): step 2 writes, 3 reads and writes, 4 reads. That is 4 times.",
    ),
    Mistake(
        _bytes(per_row=6),
        "加 ε 和开方算成了两步：规定第 3 步一次做完。",
        "Adding ε and taking the root are counted as two steps; by the rules step 3 does both.",
    ),
    Mistake(
        _bytes(per_row=2),
        "每行一个的数（mean、rstd）只算了一半：第 2 步写，第 3 步读和写，第 4 步读，共 4 次。",
        "Half of the traffic of the per-row numbers (mean, rstd) is missing: step 2 writes, 3 reads and writes, 4 reads. That is 4 times.",
    ),
    Mistake(
        _bytes(in_fp32=True),
        "每行一个的数按 4 字节算了：规定所有的数都是 bytes_per_element 字节。",
        "The per-row numbers are counted at 4 bytes; by the rules every number has bytes_per_element.",
    ),
    Mistake(
        _bytes(steps=6),
        "逐步计算时少算了一遍矩阵：第 1、4、5 步各读写一遍，第 2 步读一遍，共 7 遍。",
        "Step by step, one pass over a matrix is missing: steps 1, 4 and 5 read one and write one, step 2 reads one. That is 7.",
    ),
    Mistake(
        _bytes(steps=8, per_row=2),
        "第 2 步的结果每行只有一个数，不是一整个矩阵。",
        "The result of step 2 is one number per row and not a whole matrix.",
    ),
    Mistake(
        _bytes(fused=3),
        "融合的核函数里 x 算了两遍：一行读进来就留在芯片上，缩放时不用再读。",
        "The fused kernel is charged for x twice; once read, a row stays on the chip, and scaling does not read it again.",
    ),
    Mistake(
        _bytes(fused_add=1),
        "融合之后，加法你只多算了一遍矩阵，应多 2 遍：residual 要读，相加的结果也要写出来，下一层还要用。",
        "For the fused addition you count one more pass; it takes two: residual is read, and the sum is written, since the next layer needs it.",
    ),
    Mistake(
        _bytes(fused_add=3),
        "融合之后，相加的结果写出去就行了，不用再读回来：加法只多 2 遍。",
        "Once fused, the sum is written and not read back: the addition adds 2 passes.",
    ),
    Mistake(
        _bytes(add=2),
        "逐步计算时，加法要读 x、读 residual、写出结果，共 3 遍。",
        "Step by step, the addition reads x, reads residual and writes the sum: 3 passes.",
    ),
    Mistake(
        _bytes(add=0, fused_add=0),
        "op 没有用上：“add_rms_norm”还要先加上 residual。",
        "op is not used: “add_rms_norm” also adds the residual, before the norm.",
    ),
    Mistake(
        _bytes(always=True),
        "fused 没有用上：为 False 时要一步一步地数。",
        "fused is not used: where it is False, count step by step.",
    ),
    Mistake(
        _bytes(always=False),
        "fused 没有用上：为 True 时只有一个核函数。",
        "fused is not used: where it is True, there is only one kernel.",
    ),
)


# triton_rms_norm -----------------------------------------------------------------------------------------------------


def _tile(tensor, masked=True):
    """The lanes that a program holds per row: N of them and, up to a power of two, zeros or what follows in memory."""
    columns = tensor.shape[-1]
    block = 1 << (columns - 1).bit_length()
    if masked:
        return F.pad(tensor, (0, block - columns))
    memory = F.pad(tensor.flatten(), (0, block), value=torch.nan)
    return memory.as_strided((*tensor.shape[:-1], block), (columns, 1)[-tensor.dim() :])


def _normalised(x, weight, eps, masked=True, over="row", root="inside", centre=False, gamma=True, wide=True):
    """What a kernel gives for a row with mistakes to switch on, in the dtype it computes in."""
    h = x if x.dtype == torch.float64 or not wide else x.float()
    lanes, columns = _tile(h, masked), x.shape[-1]
    if centre:
        h = h - h.mean(-1, keepdim=True)
        lanes = _tile(h)
    count = {"row": columns, "tile": lanes.shape[-1], "sum": 1}[over]
    square = (lanes * lanes).sum(-1, keepdim=True) / count
    divisor = {
        "inside": lambda: (square + eps).sqrt(),
        "outside": lambda: square.sqrt() + eps,
        "square": lambda: square + eps,
        "none": square.sqrt,
        "fixed": lambda: (square + 1e-6).sqrt(),
    }[root]()
    y = h / divisor
    return y * weight if gamma else y


def _rms_norm(rows=slice(None), fill=torch.nan, **options):
    """rows: those that are stored; the others hold `fill`."""

    def wrong(x, weight, eps):
        y = torch.full_like(x, fill)
        y[rows] = _normalised(x, weight, eps, **options)[rows].to(x.dtype)
        return y

    return wrong


def _all_into_the_first_row(fill):
    def wrong(x, weight, eps):
        y = torch.full_like(x, fill)
        y[0] = _normalised(x, weight, eps)[-1].to(x.dtype)
        return y

    return wrong


def _past_the_end(*inputs):
    columns = inputs[0].shape[-1]
    if columns & (columns - 1):
        raise IndexError(PAST_THE_END)
    return right_triton_rms_norm(*inputs).to(inputs[0].dtype)


def _in_place(x, weight, eps):
    y = _rms_norm()(x, weight, eps)
    x.copy_(y)
    return x


def _in_fp32(x, weight, eps):
    return _normalised(x, weight, eps).to(torch.float32)


NOT_WRITTEN = (
    "有的行没有写：一个程序算一行的话，有多少行就要启动多少个程序，每个程序写自己那一行。",
    "Some rows are never written: with one program per row, the grid needs as many programs as there are rows, and each stores its own row.",
)


FIRST_ROW = (
    "所有程序都写到了第一行：tl.store 的地址也要加上 row * N。",
    "All programs store into the first row: the address in tl.store needs row * N too.",
)


def _kernel_mistakes(wrong, past_the_end, first_row):
    """Those of both kernels. wrong(**options): the wrong version; first_row(fill): all programs store into row 0."""
    return (
        Mistake(
            wrong(over="tile"),
            "求均方时除以了块的大小 BLOCK：要除以一行的个数 N，掩码挡住的位置不算。",
            "The sum of squares is divided by the size of the tile, BLOCK. Divide by N, the length of a row: masked places do not count.",
        ),
        Mistake(
            wrong(masked=False),
            "读的时候没有掩码：N 不是 2 的幂时，多出来的位置读到了后面的内存，也加进了平方和。给 tl.load 加上 mask=… 和 other=0.0。",
            "The load has no mask. Where N is not a power of two, the places left over read the memory that follows, which ends up in the sum of squares. Give tl.load a mask and other=0.0.",
        ),
        Mistake(
            past_the_end,
            "存的时候没有掩码：写到了张量后面的内存里。给 tl.store 加上 mask=…。",
            "The store has no mask: it writes into the memory behind the tensor. Give tl.store a mask.",
        ),
        Mistake(wrong(rows=slice(0, 1)), *NOT_WRITTEN),
        Mistake(wrong(rows=slice(0, 1), fill=0.0), *NOT_WRITTEN),
        Mistake(first_row(torch.nan), *FIRST_ROW),
        Mistake(first_row(0.0), *FIRST_ROW),
        Mistake(
            wrong(root="outside"),
            "ε 加在了根号外面：应为 sqrt(均方 + ε)。",
            "ε stands outside the root: it should be sqrt(mean square + ε).",
        ),
        Mistake(
            wrong(root="none"),
            "ε 没有用上：应为 sqrt(均方 + ε)。",
            "ε is not used: it should be sqrt(mean square + ε).",
        ),
        Mistake(
            wrong(root="fixed"),
            "ε 写死成了 1e-6：要用传进来的 eps。",
            "ε is fixed at 1e-6; use the eps that is passed in.",
        ),
        Mistake(
            wrong(root="square"),
            "除以的是均方：忘了开根号。",
            "You divide by the mean square: the root is missing.",
        ),
        Mistake(
            wrong(over="sum"),
            "平方只求了和，没有除以 N。",
            "The squares are summed but not divided by N.",
        ),
        Mistake(
            wrong(centre=True),
            "减去了均值：RMSNorm 不减。",
            "The mean is subtracted; RMSNorm does not subtract it.",
        ),
        Mistake(wrong(gamma=False), "没有乘 weight。", "weight is not applied."),
        Mistake(
            wrong(wide=False),
            "你在 fp16 里求平方，300 的平方就溢出了。读进来之后马上 .to(tl.float32)。",
            "The squares are taken in fp16, where 300 squared overflows. Convert with .to(tl.float32) right after the load.",
        ),
    )


MISTAKES["triton_rms_norm"] = (
    *_kernel_mistakes(_rms_norm, _past_the_end, _all_into_the_first_row),
    Mistake(
        _in_fp32,
        "返回的是 fp32：输出的数据类型要和 x 相同，例如用 torch.empty_like(x) 来建。",
        "The result is in fp32; it should have the dtype of x: make it with torch.empty_like(x), say.",
    ),
    Mistake(
        _in_place,
        "结果写进了 x：要另建一个张量，例如用 torch.empty_like(x)。",
        "The result is written into x; make a new tensor for it, say with torch.empty_like(x).",
    ),
)


# triton_add_rms_norm -------------------------------------------------------------------------------------------------


def _add_rms_norm(
    rows=slice(None), fill=torch.nan, reads="sum", returns="sum", rounded=True, narrow=False, swapped=False, **options
):
    """reads and returns: what the norm reads, and what comes back beside y."""

    def wrong(x, residual, weight, eps):
        total = x + residual if narrow == "both" else x.float() + residual.float()
        total = total.to(x.dtype).float() if narrow is True else total
        read = {"sum": total.to(residual.dtype) if rounded else total, "x": x, "residual": residual}[reads]
        if options.get("wide", True) is False:
            read = total.to(residual.dtype)
        y = torch.full_like(x, fill)
        y[rows] = _normalised(read, weight.to(read.dtype), eps, **options)[rows].to(x.dtype)
        kept = {"sum": total, "residual": residual, "x": x, "y": y}[returns].to(residual.dtype)
        if rows != slice(None):
            kept = torch.full_like(kept, fill).index_copy(0, torch.arange(len(kept))[rows], kept[rows])
        return (kept, y) if swapped else (y, kept)

    return wrong


def _both_into_the_first_row(fill):
    def wrong(x, residual, weight, eps):
        parts = []
        for part in _add_rms_norm()(x, residual, weight, eps):
            parts.append(torch.full_like(part, fill))
            parts[-1][0] = part[-1]
        return tuple(parts)

    return wrong


def _add_past_the_end(x, *others):
    columns = x.shape[-1]
    if columns & (columns - 1):
        raise IndexError(PAST_THE_END)
    return _add_rms_norm()(x, *others)


def _residual_in_place(x, residual, weight, eps):
    y, total = _add_rms_norm()(x, residual, weight, eps)
    residual.copy_(total)
    return y, residual


def _only_y(*inputs):
    return _add_rms_norm()(*inputs)[0]


def _sum_in_the_dtype_of_x(x, residual, weight, eps):
    y, total = _add_rms_norm()(x, residual, weight, eps)
    return y, total.to(x.dtype)


MISTAKES["triton_add_rms_norm"] = (
    Mistake(
        _only_y,
        "只返回了 y：sum 就是下一层的 residual，也要返回。",
        "Only y is returned. The sum is the residual of the next layer and has to be returned as well.",
    ),
    Mistake(
        _add_rms_norm(swapped=True),
        "两个结果的次序反了：先 y，后新的 residual。",
        "The two results are in the wrong order: y first, then the new residual.",
    ),
    Mistake(
        _add_rms_norm(reads="x"),
        "归一化的是 x：应当归一化 x + residual。",
        "It is x that you norm; norm the sum x + residual.",
    ),
    Mistake(
        _add_rms_norm(reads="residual"),
        "归一化的是原来的 residual：应当归一化 x + residual。",
        "It is the old residual that you norm; norm the sum x + residual.",
    ),
    Mistake(
        _add_rms_norm(returns="residual"),
        "返回的是原来的 residual：应当返回 x + residual。",
        "You return the old residual; return the sum x + residual.",
    ),
    Mistake(
        _add_rms_norm(returns="y"),
        "第二个结果也归一化了：新的 residual 就是 x + residual，不归一化。",
        "The second result is normed too; the new residual is x + residual itself, without a norm.",
    ),
    *_kernel_mistakes(_add_rms_norm, _add_past_the_end, _both_into_the_first_row),
    Mistake(
        _sum_in_the_dtype_of_x,
        "新的 residual 用了 x 的数据类型：应当用 residual 的，例如用 torch.empty_like(residual) 来建。",
        "The new residual has the dtype of x; it should have that of residual: make it with torch.empty_like(residual), say.",
    ),
    Mistake(
        _add_rms_norm(narrow=True),
        "sum 先舍入到了 x 的数据类型：先把两个输入都转成 fp32 再加，只舍入一次，舍入到 residual 的数据类型。",
        "The sum is rounded to the dtype of x on the way. Convert both to fp32, add, and round once, to the dtype of residual.",
    ),
    Mistake(
        _add_rms_norm(rounded=False),
        "归一化读的是还没有舍入的 sum：应当读返回的那个。先 .to(Sum.dtype.element_ty)，再转回 fp32。",
        "The norm reads the sum before it is rounded; it should read exactly what is returned. Round with .to(Sum.dtype.element_ty), then go back to fp32.",
    ),
    Mistake(
        _residual_in_place,
        "sum 写进了 residual：要另建一个张量，例如用 torch.empty_like(residual)。",
        "The sum is written into residual; make a new tensor for it, say with torch.empty_like(residual).",
    ),
)


# backward_bytes ------------------------------------------------------------------------------------------------------


def _backward(
    matrices=3, again=2, rstd=4, means=8, partial=8, weight=2, clipped=True, narrow=False, size=None, held_is=None
):
    """The count with mistakes to switch on."""

    def wrong(rows, columns, bytes_per_element, programs, held):
        e = bytes_per_element if size is None else size
        fits = held if held_is is None else held_is
        total = matrices * rows * columns * e + rstd * rows + weight * columns * e
        total += (partial // 4 * e if narrow else partial) * columns * (min(programs, rows) if clipped else programs)
        if not fits:
            total += again * rows * columns * e + (4 + means) * rows + columns * e
        return total

    return wrong


def _means_in_the_dtype(rows, columns, bytes_per_element, programs, held):
    right = _backward()(rows, columns, bytes_per_element, programs, held)
    return right + (bytes_per_element - 4) * rows * (1 if held else 4)


MISTAKES["backward_bytes"] = (
    Mistake(
        _backward(size=1),
        "数的是元素的个数：还要乘以每个元素的字节数。",
        "You count elements; multiply by the bytes per element.",
    ),
    Mistake(
        _backward(clipped=False),
        "行数比程序少时，多出来的程序什么也不写：部分和只有 min(programs, rows) 行。",
        "Where there are fewer rows than programs, those left over write nothing: there are min(programs, rows) rows of partial sums.",
    ),
    Mistake(
        _backward(partial=4),
        "部分和只算了一遍：要写出来，另一个核函数还要读一遍。",
        "The partial sums are counted once; they are written, and then read by the other kernel.",
    ),
    Mistake(
        _backward(partial=0),
        "没有算部分和：每个程序写一行，之后再读一遍。",
        "The partial sums are left out: each program writes a row of them, which is then read again.",
    ),
    Mistake(
        _backward(narrow=True),
        "部分和是 fp32，每个数 4 字节，不是 bytes_per_element。",
        "The partial sums are in fp32, 4 bytes a number and not bytes_per_element.",
    ),
    Mistake(
        _backward(weight=1),
        "weight 要读，dweight 要写，你只算了一样。",
        "weight is read and dweight is written; you count only one of them.",
    ),
    Mistake(_backward(weight=0), "没有算 weight 和 dweight。", "weight and dweight are left out."),
    Mistake(
        _backward(rstd=0),
        "没有算 rstd：每行读一个，4 字节。",
        "rstd is left out: one per row is read, 4 bytes.",
    ),
    Mistake(
        _means_in_the_dtype,
        "rstd 和每行的平均值是 fp32，每个 4 字节，不是 bytes_per_element。",
        "rstd and the means are in fp32, 4 bytes each and not bytes_per_element.",
    ),
    Mistake(
        _backward(matrices=2),
        "少算了一个矩阵：读 x、读 dy、写 dx，共 3 个。",
        "One matrix is missing: x is read, dy is read, dx is written. That is 3.",
    ),
    Mistake(
        _backward(matrices=4),
        "多算了一个矩阵：读 x、读 dy、写 dx，共 3 个。",
        "One matrix too many: x is read, dy is read, dx is written. That is 3.",
    ),
    Mistake(
        _backward(held_is=True),
        "held 没有用上：放不下时，前面还有一次启动。",
        "held is not used: where rows do not fit, one more launch comes first.",
    ),
    Mistake(
        _backward(held_is=False),
        "held 没有用上：放得下时，没有前面那次启动。",
        "held is not used: where rows fit, there is no launch in front.",
    ),
    Mistake(
        _backward(again=1),
        "放不下时，x 和 dy 都要再读一遍，你只算了一个。",
        "Where rows do not fit, x and dy are both read again; you count only one of them.",
    ),
    Mistake(
        _backward(means=4),
        "每行的平均值要写一遍，再读一遍，你只算了一遍。",
        "The mean of each row is written and read again; you count it once.",
    ),
    Mistake(
        _backward(means=0),
        "没有算每行的平均值：写一遍，读一遍，各 4 字节。",
        "The means of the rows are left out: written once and read once, 4 bytes each time.",
    ),
)
