"""The tasks of exercise 10: the bytes of fused kernels, and RMSNorm and add + RMSNorm as Triton kernels. Their cases have
few rows: the interpreter takes about a millisecond per program."""

import torch
import torch.nn.functional as F

from normcourse.check import Case, Task

from ..shared import between, even_squares, normal

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


def visible_bytes_moved(g):
    def case(zh, en, *inputs):
        return Case(zh, en, dict(zip(("rows", "columns", "bytes_per_element", "op", "fused"), inputs)))

    yield case("RMSNorm，逐步", "RMSNorm, step by step", 6, 10, 2, "rms_norm", False)
    yield case("RMSNorm，融合", "RMSNorm, fused", 6, 10, 2, "rms_norm", True)
    yield case("加法 + RMSNorm，逐步", "add + RMSNorm, step by step", 5, 7, 2, "add_rms_norm", False)
    yield case("加法 + RMSNorm，融合", "add + RMSNorm, fused", 5, 7, 2, "add_rms_norm", True)
    yield case("fp32", "fp32", 3, 4, 4, "rms_norm", False)
    yield case("只有一行", "a single row", 1, 4096, 2, "add_rms_norm", True)
    yield case("8192 × 4096", "8192 × 4096", 8192, 4096, 2, "add_rms_norm", False)


def hidden_bytes_moved(g):
    names = ("rows", "columns", "bytes_per_element", "op", "fused")
    for rows, columns, size in ((between(g, 5, 99), between(g, 101, 999), 2), (between(g, 5, 99), between(g, 3, 4), 4)):
        for op in ("rms_norm", "add_rms_norm"):
            for fused in (True, False):
                inputs = dict(zip(names, (rows, columns, size, op, fused)))
                yield Case(f"{op}, {size} bytes, {fused}", f"{op}, {size} bytes, {fused}", inputs)
    for fused in (True, False):
        inputs = dict(zip(names, (1, between(g, 1000, 9000), 8, "add_rms_norm", fused)))
        yield Case(f"one row, {fused}", f"one row, {fused}", inputs)


# triton_rms_norm -----------------------------------------------------------------------------------------------------


def right_triton_rms_norm(x, weight, eps):
    return F.rms_norm(x, x.shape[-1:], weight, eps)


def visible_triton_rms_norm(g):
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


def hidden_triton_rms_norm(g):
    def case(en, *shape, eps=1e-6, gamma=torch.float32, **draw):
        inputs = {
            "x": even_squares(g, *shape, **draw),
            "weight": normal(g, shape[-1], mean=1.0, dtype=gamma),
            "eps": eps,
        }
        return Case(en, en, inputs)

    yield case("power of two", between(g, 2, 3), 16, mean=0.5)
    yield case("no power of two", between(g, 2, 3), between(g, 5, 7), mean=2.0)
    yield case("large eps", 2, between(g, 9, 15), eps=0.05 + float(torch.rand((), generator=g)))
    yield case("rows of 127", 2, 127, mean=-1.0)
    yield case("rows of 41, one row", 1, 41)
    yield case("rows of 1", between(g, 2, 3), 1)
    yield case("many rows", between(g, 9, 12), 3)
    yield case("fp16", 2, between(g, 33, 60), mean=-100.0, std=80.0, dtype=torch.float16)
    yield case("fp16, weight too", 2, between(g, 17, 31), mean=100.0, dtype=torch.float16, gamma=torch.float16)
    yield case("rows of zeros", 2, 5, std=0.0)


# triton_add_rms_norm -------------------------------------------------------------------------------------------------


def right_triton_add_rms_norm(x, residual, weight, eps):
    """The sum is made in fp32 and rounded to the residual's dtype once; all else in fp64."""
    total = (x.float() + residual.float()).to(residual.dtype).double()
    return F.rms_norm(total, x.shape[-1:], weight.double(), eps), total


def visible_triton_add_rms_norm(g):
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


def hidden_triton_add_rms_norm(g):
    def case(en, *shape, eps=1e-6, x=torch.float32, residual=torch.float32, mean=0.0, std=1.0, **options):
        inputs = {"x": normal(g, *shape, dtype=x), "residual": normal(g, *shape, mean=mean, std=std, dtype=residual)}
        inputs |= {"weight": normal(g, shape[-1], mean=1.0), "eps": eps}
        return Case(en, en, inputs, dtype=(x, residual), **options)

    half = torch.float16
    yield case("power of two", between(g, 2, 3), 16, mean=0.5)
    yield case("no power of two", between(g, 2, 3), between(g, 5, 7), mean=-1.0)
    yield case("large eps", 2, between(g, 9, 15), eps=0.05 + float(torch.rand((), generator=g)))
    yield case("rows of 127", 2, 127)
    yield case("many rows", between(g, 9, 12), 3)
    yield case("x in fp16, residual in fp32", 2, between(g, 33, 60), x=half, mean=-3.0)
    yield case("both in fp16", 2, between(g, 65, 99), x=half, residual=half, mean=-100.0, std=80.0)
    coarse = case("x in fp32, residual in fp16", 2, between(g, 50, 63), residual=half, std=4.0, rounding=1e-5)
    coarse.inputs["x"] = coarse.inputs["x"].half().float()
    yield coarse


# backward_bytes ------------------------------------------------------------------------------------------------------


def right_backward_bytes(rows, columns, bytes_per_element, programs, held):
    working = min(rows, programs)
    of_matrices = (3 if held else 5) * rows * columns * bytes_per_element
    of_rows = (4 if held else 16) * rows
    return of_matrices + of_rows + columns * ((2 if held else 3) * bytes_per_element + 8 * working)


def _backward_bytes(zh, en, *inputs):
    return Case(zh, en, dict(zip(("rows", "columns", "bytes_per_element", "programs", "held"), inputs)))


def visible_backward_bytes(g):
    yield _backward_bytes("放得下，3 个程序", "rows fit, 3 programs", 11, 7, 2, 3, True)
    yield _backward_bytes("放不下，3 个程序", "rows do not fit, 3 programs", 11, 7, 2, 3, False)
    yield _backward_bytes("fp64", "fp64", 6, 5, 8, 2, True)
    yield _backward_bytes("程序比行多", "more programs than rows", 5, 13, 2, 9, True)
    yield _backward_bytes("只有一行，放不下", "a single row that does not fit", 1, 17, 4, 4, False)
    yield _backward_bytes("8192 × 4096，264 个程序", "8192 × 4096, 264 programs", 8192, 4096, 2, 264, True)


def hidden_backward_bytes(g):
    for held in (True, False):
        for size in (2, 4, 8):
            rows, columns = between(g, 20, 60), between(g, 3, 40)
            en = f"{size} bytes, {held}"
            yield _backward_bytes(en, en, rows, columns, size, between(g, 2, 15), held)
        yield _backward_bytes("programs", f"many programs, {held}", between(g, 2, 9), between(g, 9, 20), 2, 30, held)
        yield _backward_bytes("row", f"one row, {held}", 1, between(g, 1000, 9000), 2, 5, held)


TASKS = [
    Task(
        "bytes_moved",
        right_bytes_moved,
        visible_bytes_moved,
        cases=hidden_bytes_moved,
        points=4,
    ),
    Task(
        "triton_rms_norm",
        right_triton_rms_norm,
        visible_triton_rms_norm,
        cases=hidden_triton_rms_norm,
        points=6,
        only=ONLY,
        closed=("normcourse.fused", "normcourse.norms"),
    ),
    Task(
        "triton_add_rms_norm",
        right_triton_add_rms_norm,
        visible_triton_add_rms_norm,
        cases=hidden_triton_add_rms_norm,
        points=6,
        only=ONLY,
        closed=("normcourse.fused", "normcourse.norms"),
        widened=False,
    ),
    Task(
        "backward_bytes",
        right_backward_bytes,
        visible_backward_bytes,
        cases=hidden_backward_bytes,
        points=4,
    ),
]
