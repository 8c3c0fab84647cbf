"""The tasks of exercise 10: the bytes of fused kernels, and RMSNorm and add + RMSNorm as Triton kernels."""

import torch
import torch.nn.functional as F

from normcourse.check import Case, Mistake, Task
from normcourse.check.rules import PAST_THE_END

from ..shared import normal

# What makes, measures, converts, shows and reshapes tensors, and what Triton itself calls; no arithmetic, no way to NumPy
# or to numbers.
ONLY = (
    *("get", "size", "stride", "dim", "numel", "len", "element_size", "is_contiguous", "is_floating_point"),
    *("data_ptr", "storage_offset", "untyped_storage", "set", "cpu", "copy", "as_strided"),
    *("empty", "empty_like", "new_empty", "zeros", "zeros_like", "new_zeros", "clone", "contiguous", "to"),
    *("float", "half", "bfloat16", "double", "type", "type_as", "detach", "requires_grad", "set_grad_enabled"),
    *("device", "get_device", "repr", "format"),
    *("reshape", "view", "view_as", "flatten", "squeeze", "unsqueeze", "getitem"),
)

# bytes_moved ---------------------------------------------------------------------------------------------------------


def right_bytes_moved(rows, columns, bytes_per_element, op, fused):
    matrices = {("rms_norm", True): 2, ("rms_norm", False): 7, ("add_rms_norm", True): 4, ("add_rms_norm", False): 10}
    per_row = 0 if fused else 4
    return bytes_per_element * (matrices[op, fused] * rows * columns + per_row * rows + columns)


def bytes_moved_cases(g):
    def case(zh, en, *inputs):
        return Case(zh, en, dict(zip(("rows", "columns", "bytes_per_element", "op", "fused"), inputs)))

    yield case("RMSNorm，逐步", "RMSNorm, step by step", 6, 10, 2, "rms_norm", False)
    yield case("RMSNorm，融合", "RMSNorm, fused", 6, 10, 2, "rms_norm", True)
    yield case("加法 + RMSNorm，逐步", "add + RMSNorm, step by step", 5, 7, 2, "add_rms_norm", False)
    yield case("加法 + RMSNorm，融合", "add + RMSNorm, fused", 5, 7, 2, "add_rms_norm", True)
    yield case("fp32", "fp32", 3, 4, 4, "rms_norm", False)
    yield case("只有一行", "a single row", 1, 4096, 2, "add_rms_norm", True)
    yield case("8192 × 4096", "8192 × 4096", 8192, 4096, 2, "add_rms_norm", False)


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


BYTES_MOVED = Task(
    "bytes_moved",
    right_bytes_moved,
    bytes_moved_cases,
    (
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
    ),
)

# triton_rms_norm -----------------------------------------------------------------------------------------------------


def right_triton_rms_norm(x, weight, eps):
    return F.rms_norm(x, x.shape[-1:], weight, eps)


def triton_rms_norm_cases(g):
    def case(zh, en, *shape, eps=1e-6, gamma=torch.float32, **draw):
        inputs = {"x": normal(g, *shape, **draw), "weight": normal(g, shape[-1], mean=1.0, dtype=gamma), "eps": eps}
        return Case(zh, en, inputs)

    yield case("每行 8 个数", "rows of 8", 3, 8, mean=1.0)
    yield case("每行 5 个数：不是 2 的幂", "rows of 5, not a power of two", 2, 5, mean=2.0)
    yield case("ε = 0.1", "ε = 0.1", 2, 3, eps=0.1)
    yield case("每行 127 个数", "rows of 127", 2, 127, mean=-1.0)
    yield case("每行 1 个数，都很小", "rows of 1, very small", 2, 1, std=0.002)
    yield case("12 行", "12 rows", 12, 3)
    yield case("fp16，数值到 300", "fp16, values up to 300", 2, 41, mean=100.0, std=80.0, dtype=torch.float16)


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


TRITON_RMS_NORM = Task(
    "triton_rms_norm",
    right_triton_rms_norm,
    triton_rms_norm_cases,
    (
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
    ),
    only=ONLY,
    closed=("normcourse.fused", "normcourse.norms"),
)

# triton_add_rms_norm -------------------------------------------------------------------------------------------------


def right_triton_add_rms_norm(x, residual, weight, eps):
    """The sum is made in fp32 and rounded to the residual's dtype once; all else in fp64."""
    total = (x.float() + residual.float()).to(residual.dtype).double()
    return F.rms_norm(total, x.shape[-1:], weight.double(), eps), total


def triton_add_rms_norm_cases(g):
    def case(zh, en, *shape, eps=1e-6, x=torch.float32, residual=torch.float32, mean=0.0, std=1.0, size=1.0, **options):
        inputs = {
            "x": normal(g, *shape, std=size, dtype=x),
            "residual": normal(g, *shape, mean=mean, std=std * size, dtype=residual),
            "weight": normal(g, shape[-1], mean=1.0),
        }
        return Case(zh, en, inputs | {"eps": eps}, dtype=(x, residual), **options)

    yield case("每行 8 个数", "rows of 8", 3, 8, mean=1.0)
    yield case("每行 5 个数：不是 2 的幂", "rows of 5, not a power of two", 2, 5, mean=-2.0)
    yield case("ε = 0.1", "ε = 0.1", 2, 3, eps=0.1)
    yield case("12 行，数都很小", "12 rows of very small numbers", 12, 3, size=0.002)
    half = torch.float16
    yield case("x 是 fp16，residual 是 fp32", "x in fp16, residual in fp32", 2, 41, x=half, mean=3.0)
    yield case(
        "都是 fp16，数值到 300", "both in fp16, values up to 300", 2, 100, x=half, residual=half, mean=100.0, std=80.0
    )
    coarse = case(
        "x 是 fp32，residual 是 fp16", "x in fp32, residual in fp16", 2, 60, residual=half, std=4.0, rounding=5e-5
    )
    coarse.inputs["x"] = coarse.inputs["x"].half().float()  # the fp32 sum is exact: rounded once, however it is made
    yield coarse


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


TRITON_ADD_RMS_NORM = Task(
    "triton_add_rms_norm",
    right_triton_add_rms_norm,
    triton_add_rms_norm_cases,
    (
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
    ),
    only=ONLY,
    closed=("normcourse.fused", "normcourse.norms"),
    widened=False,
)

TASKS = [BYTES_MOVED, TRITON_RMS_NORM, TRITON_ADD_RMS_NORM]
