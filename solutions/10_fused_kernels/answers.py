import numpy
import torch
import torch.nn.functional as F

from normcourse import fused
from normcourse.fused.interpreter import tl, triton
from tests.answers import honest, mutant

# bytes_moved


def passes(op, fused, steps=7, fused_norm=2, add=3, fused_add=2):
    """How often a matrix is read or written."""
    return (fused_norm if fused else steps) + ((fused_add if fused else add) if op == "add_rms_norm" else 0)


def moved(matrices, rows, columns, size, per_row=0, weight=1):
    return size * (matrices * rows * columns + per_row * rows + weight * columns)


@mutant("bytes_moved", "multiply by the bytes")
def counts_elements(rows, columns, size, op, fused):
    return moved(passes(op, fused), rows, columns, 1, 0 if fused else 4)


@mutant("bytes_moved", "weight is left out")
def without_the_weight(rows, columns, size, op, fused):
    return moved(passes(op, fused), rows, columns, size, 0 if fused else 4, weight=0)


@mutant("bytes_moved", "once per row")
def weight_per_row(rows, columns, size, op, fused):
    return moved(passes(op, fused), rows, columns, size, 0 if fused else 4, weight=rows)


@mutant("bytes_moved", "one per row are left out")
def without_the_small_ones(rows, columns, size, op, fused):
    return moved(passes(op, fused), rows, columns, size)


@mutant("bytes_moved", "counted as two steps")
def six_steps(rows, columns, size, op, fused):
    return moved(passes(op, fused), rows, columns, size, 0 if fused else 6)


@mutant("bytes_moved", "Half of the traffic")
def per_row_numbers_written_only(rows, columns, size, op, fused):
    return moved(passes(op, fused), rows, columns, size, 0 if fused else 2)


@mutant("bytes_moved", "at 4 bytes")
def statistics_in_fp32(rows, columns, size, op, fused):
    return moved(passes(op, fused), rows, columns, size) + (0 if fused else 16 * rows)


@mutant("bytes_moved", "one pass over a matrix is missing")
def x_still_in_cache(rows, columns, size, op, fused):
    return moved(passes(op, fused, steps=6), rows, columns, size, 0 if fused else 4)


@mutant("bytes_moved", "charged for x twice")
def reads_x_twice(rows, columns, size, op, fused):
    return moved(passes(op, fused, fused_norm=3), rows, columns, size, 0 if fused else 4)


@mutant("bytes_moved", "the sum is written")
def sum_stays_on_the_chip(rows, columns, size, op, fused):
    return moved(passes(op, fused, fused_add=1), rows, columns, size, 0 if fused else 4)


@mutant("bytes_moved", "not read back")
def adds_first_then_norms(rows, columns, size, op, fused):
    return moved(passes(op, fused, fused_add=3), rows, columns, size, 0 if fused else 4)


@mutant("bytes_moved", "Step by step, the addition")
def adds_in_place(rows, columns, size, op, fused):
    return moved(passes(op, fused, add=2), rows, columns, size, 0 if fused else 4)


@mutant("bytes_moved", "op is not used")
def norm_only(rows, columns, size, op, fused):
    return moved(2 if fused else 7, rows, columns, size, 0 if fused else 4)


@mutant("bytes_moved", "fused is not used")
def always_fused(rows, columns, size, op, fused):
    return moved(4 if op == "add_rms_norm" else 2, rows, columns, size)


@mutant("bytes_moved", "fused is not used")
def never_fused(rows, columns, size, op, fused):
    return moved(10 if op == "add_rms_norm" else 7, rows, columns, size, 4)


@mutant("bytes_moved")
def only_large_matrices(rows, columns, size, op, fused):
    return moved(passes(op, fused, add=2), rows, columns, size, weight=0)


@honest("bytes_moved")
def step_after_step(rows, columns, bytes_per_element, op, fused):
    total = 0
    if op == "add_rms_norm" and not fused:
        total += 3 * rows * columns
    if fused:
        total += rows * columns + columns + rows * columns
        total += 2 * rows * columns if op.startswith("add") else 0
    else:
        total += 2 * rows * columns  # square
        total += rows * columns + rows  # mean
        total += rows + rows  # rstd
        total += rows * columns + rows + rows * columns  # x_hat
        total += rows * columns + columns + rows * columns  # y
    return total * bytes_per_element


@honest("bytes_moved")
def with_tensors(rows, columns, size, op, fused):
    x, weight = torch.empty(rows, columns, device="meta"), torch.empty(columns, device="meta")
    row = torch.empty(rows, 1, device="meta")
    moved = [x, x, weight] if fused else [x, x, x, row, row, row, x, row, x, x, weight, x]
    moved += {"rms_norm": [], "add_rms_norm": [x, x] if fused else [x, x, x]}[op]
    return torch.tensor(float(sum(t.numel() for t in moved)) * size, dtype=torch.float64)


@honest("bytes_moved")
def as_a_float(m, n, e, op, fused):
    matrices = {("rms_norm", True): 2.0, ("rms_norm", False): 7.0, ("add_rms_norm", True): 4.0}.get(
        (op, bool(fused)), 10.0
    )
    return matrices * m * n * e + n * e + (0.0 if fused else 4.0 * m * e)


# triton_rms_norm


def rows_of(kernel, **options):
    """The usual wrapper: one program per row."""

    def launch(x, weight, eps):
        y = torch.empty_like(x)
        kernel[(x.shape[0],)](x, weight, y, x.shape[1], eps, BLOCK=triton.next_power_of_2(x.shape[1]), **options)
        return y

    launch.__name__ = kernel.fn.__name__ if hasattr(kernel, "fn") else kernel.__name__
    return launch


@triton.jit
def right_kernel(X, W, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < N
    x = tl.load(X + row * N + column, inside, other=0.0).to(tl.float32)
    w = tl.load(W + column, inside, other=0.0).to(tl.float32)
    y = x / tl.sqrt(tl.sum(x * x) / N + eps) * w
    tl.store(Y + row * N + column, y, inside)


@mutant("triton_rms_norm", "size of the tile")
@rows_of
@triton.jit
def mean_over_the_tile(X, W, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < N
    x = tl.load(X + row * N + column, inside, other=0.0).to(tl.float32)
    w = tl.load(W + column, inside, other=0.0).to(tl.float32)
    y = x / tl.sqrt(tl.sum(x * x) / BLOCK + eps) * w
    tl.store(Y + row * N + column, y, inside)


@mutant("triton_rms_norm", "load has no mask")
@rows_of
@triton.jit
def load_without_mask(X, W, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    x = tl.load(X + row * N + column).to(tl.float32)
    w = tl.load(W + column).to(tl.float32)
    y = x / tl.sqrt(tl.sum(x * x) / N + eps) * w
    tl.store(Y + row * N + column, y, column < N)


@mutant("triton_rms_norm", "store has no mask")
@rows_of
@triton.jit
def store_without_mask(X, W, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < N
    x = tl.load(X + row * N + column, inside, other=0.0).to(tl.float32)
    w = tl.load(W + column, inside, other=0.0).to(tl.float32)
    tl.store(Y + row * N + column, x / tl.sqrt(tl.sum(x * x) / N + eps) * w)


@mutant("triton_rms_norm", "load has no mask")
@rows_of
@triton.jit
def no_mask_at_all(X, W, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    x = tl.load(X + row * N + column).to(tl.float32)
    y = x / tl.sqrt(tl.sum(x * x) / N + eps) * tl.load(W + column).to(tl.float32)
    tl.store(Y + row * N + column, y)


@mutant("triton_rms_norm", "fp16")
@rows_of
@triton.jit
def no_upcast(X, W, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < N
    x = tl.load(X + row * N + column, inside, other=0.0)
    w = tl.load(W + column, inside, other=0.0)
    y = x / tl.sqrt((tl.sum(x * x) / N + eps).to(tl.float32)) * w
    tl.store(Y + row * N + column, y, inside)


@mutant("triton_rms_norm", "outside the root")
@rows_of
@triton.jit
def eps_outside(X, W, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < N
    x = tl.load(X + row * N + column, inside, other=0.0).to(tl.float32)
    w = tl.load(W + column, inside, other=0.0).to(tl.float32)
    y = x / (tl.sqrt(tl.sum(x * x) / N) + eps) * w
    tl.store(Y + row * N + column, y, inside)


@mutant("triton_rms_norm", "ε is not used")
@rows_of
@triton.jit
def eps_unused(X, W, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < N
    x = tl.load(X + row * N + column, inside, other=0.0).to(tl.float32)
    w = tl.load(W + column, inside, other=0.0).to(tl.float32)
    tl.store(Y + row * N + column, x / tl.sqrt(tl.sum(x * x) / N) * w, inside)


@mutant("triton_rms_norm", "fixed at 1e-6")
def eps_fixed(x, weight, eps):
    return rows_of(right_kernel)(x, weight, 1e-6)


@mutant("triton_rms_norm", "root is missing")
@rows_of
@triton.jit
def no_root(X, W, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < N
    x = tl.load(X + row * N + column, inside, other=0.0).to(tl.float32)
    w = tl.load(W + column, inside, other=0.0).to(tl.float32)
    tl.store(Y + row * N + column, x / (tl.sum(x * x) / N + eps) * w, inside)


@mutant("triton_rms_norm", "not divided by N")
@rows_of
@triton.jit
def not_divided(X, W, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < N
    x = tl.load(X + row * N + column, inside, other=0.0).to(tl.float32)
    w = tl.load(W + column, inside, other=0.0).to(tl.float32)
    tl.store(Y + row * N + column, x / tl.sqrt(tl.sum(x * x) + eps) * w, inside)


@mutant("triton_rms_norm", "mean is subtracted")
@rows_of
@triton.jit
def layer_norm_instead(X, W, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < N
    x = tl.load(X + row * N + column, inside, other=0.0).to(tl.float32)
    w = tl.load(W + column, inside, other=0.0).to(tl.float32)
    x = tl.where(inside, x - tl.sum(x) / N, 0.0)
    tl.store(Y + row * N + column, x / tl.sqrt(tl.sum(x * x) / N + eps) * w, inside)


@triton.jit
def weight_left_out(X, W, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < N
    x = tl.load(X + row * N + column, inside, other=0.0).to(tl.float32)
    tl.store(Y + row * N + column, x / tl.sqrt(tl.sum(x * x) / N + eps), inside)


@mutant("triton_rms_norm", "weight is not applied")
def weight_unused(x, weight, eps):
    return rows_of(weight_left_out)(x, weight, eps)


@mutant("triton_rms_norm", "into the first row")
@rows_of
@triton.jit
def wrong_row(X, W, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < N
    x = tl.load(X + row * N + column, inside, other=0.0).to(tl.float32)
    w = tl.load(W + column, inside, other=0.0).to(tl.float32)
    tl.store(Y + column, x / tl.sqrt(tl.sum(x * x) / N + eps) * w, inside)


@mutant("triton_rms_norm")
@rows_of
@triton.jit
def stride_of_the_tile(X, W, Y, N, eps, BLOCK: tl.constexpr):
    """Right only where N is a power of two."""
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < N
    x = tl.load(X + row * BLOCK + column, inside, other=0.0).to(tl.float32)
    w = tl.load(W + column, inside, other=0.0).to(tl.float32)
    tl.store(Y + row * N + column, x / tl.sqrt(tl.sum(x * x) / N + eps) * w, inside)


@mutant("triton_rms_norm", "never written")
def one_program(x, weight, eps):
    y = torch.empty_like(x)
    right_kernel[(1,)](x, weight, y, x.shape[1], eps, BLOCK=triton.next_power_of_2(x.shape[1]))
    return y


@mutant("triton_rms_norm", "never written")
def one_program_over_zeros(x, weight, eps):
    y = torch.zeros_like(x)
    right_kernel[(1,)](x, weight, y, x.shape[1], eps, BLOCK=triton.next_power_of_2(x.shape[1]))
    return y


@mutant("triton_rms_norm", "arange's range must be a power of 2")
def tile_of_n(x, weight, eps):
    y = torch.empty_like(x)
    right_kernel[(x.shape[0],)](x, weight, y, x.shape[1], eps, BLOCK=x.shape[1])
    return y


@mutant("triton_rms_norm")
def tile_of_64(x, weight, eps):
    y = torch.empty_like(x)
    right_kernel[(x.shape[0],)](x, weight, y, x.shape[1], eps, BLOCK=64)
    return y


@mutant("triton_rms_norm", "dtype of x")
def always_fp32(x, weight, eps):
    y = torch.empty(x.shape)
    right_kernel[(x.shape[0],)](x, weight, y, x.shape[1], eps, BLOCK=triton.next_power_of_2(x.shape[1]))
    return y


@mutant("triton_rms_norm", "written into x")
def in_place(x, weight, eps):
    right_kernel[(x.shape[0],)](x, weight, x, x.shape[1], eps, BLOCK=triton.next_power_of_2(x.shape[1]))
    return x


@mutant("triton_rms_norm", "without calling")
def in_torch(x, weight, eps):
    wide = x.to(torch.float32)
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight).to(x.dtype)


@mutant("triton_rms_norm", "without calling PyTorch's numpy")
def in_numpy(x, weight, eps):
    wide = x.numpy().astype(numpy.float32)
    y = wide / numpy.sqrt((wide**2).mean(-1, keepdims=True) + eps) * weight.numpy()
    return torch.from_numpy(y).to(x.dtype)


@mutant("triton_rms_norm", "without calling PyTorch's array")
def through_asarray(x, weight, eps):
    wide = numpy.asarray(x)
    return torch.as_tensor(wide / numpy.sqrt((wide**2).mean(-1, keepdims=True) + eps) * numpy.asarray(weight))


@mutant("triton_rms_norm", "without calling PyTorch's tolist")
def in_python(x, weight, eps):
    rows = [[v / (sum(u * u for u in row) / len(row) + eps) ** 0.5 for v in row] for row in x.tolist()]
    return torch.tensor(rows, dtype=x.dtype) * weight


@mutant("triton_rms_norm", "without calling PyTorch's float")
def number_by_number(x, weight, eps):
    (m, n), gamma = x.shape, [float(weight[j]) for j in range(weight.numel())]
    rows = numpy.array([[float(x[i, j]) for j in range(n)] for i in range(m)])
    y = rows / numpy.sqrt((rows**2).mean(-1, keepdims=True) + eps) * gamma
    return torch.from_numpy(y).to(x.dtype)


@mutant("triton_rms_norm", "without calling PyTorch's rms_norm")
def built_in(x, weight, eps):
    return F.rms_norm(x, x.shape[-1:], weight, eps)


@mutant("triton_rms_norm", "without calling normcourse.fused.")
def from_the_package(x, weight, eps):
    return fused.rms_norm(x, weight, eps)


@mutant("triton_rms_norm", "without calling PyTorch's mul")
def weight_in_torch(x, weight, eps):
    return rows_of(weight_left_out)(x, weight, eps) * weight


@mutant("triton_rms_norm")
def returns_nothing(x, weight, eps):
    rows_of(right_kernel)(x, weight, eps)


@triton.jit
def tile_of_rows(X, W, Y, M, N, eps: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    inside = (row < M) & (column < N)
    x = tl.load(X + row * N + column, inside, other=0.0).to(tl.float32)
    rstd = tl.rsqrt(tl.sum(x * x, 1, keep_dims=True) / N + eps)
    w = tl.load(W + column, column < N, other=0.0).to(tl.float32)
    tl.store(Y + row * N + column, x * rstd * w, inside)


@honest("triton_rms_norm")
def several_rows_per_program(x, weight, eps):
    m, n = x.size()
    y = torch.empty(m, n, dtype=x.dtype, device=x.device)
    tile_of_rows[(triton.cdiv(m, 4),)](x, weight, y, m, n, eps, ROWS=4, COLUMNS=triton.next_power_of_2(n))
    return y


@triton.jit
def in_blocks(x_ptr, w_ptr, y_ptr, stride, n, eps, BLOCK: tl.constexpr):
    x_ptr += tl.program_id(0) * stride
    y_ptr += tl.program_id(0) * stride
    squares = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, n, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + at, mask=at < n, other=0.0).to(tl.float32)
        squares += x * x
    rms = tl.sqrt(tl.sum(squares, axis=0) / n + eps)
    for start in range(0, n, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + at, mask=at < n, other=0.0).to(tl.float32)
        w = tl.load(w_ptr + at, mask=at < n, other=0.0).to(tl.float32)
        tl.store(y_ptr + at, x / rms * w, mask=at < n)


@honest("triton_rms_norm")
def row_in_blocks(x, weight, eps):
    x = x.contiguous()
    y = torch.zeros_like(x)
    in_blocks[(x.size(0),)](x, weight, y, x.stride(0), x.size(1), eps, BLOCK=64)
    return y


@honest("triton_rms_norm")
def fixed_large_tile(x, weight, eps):
    y = x.new_empty(x.shape)
    right_kernel[(len(x), 1, 1)](x, weight, y, x.shape[-1], eps, BLOCK=256)
    return y


@triton.jit
def all_rows(X, W, Y, M, N, eps, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    w = tl.load(W + column, column < N, other=1.0).to(tl.float32)
    for row in range(tl.program_id(0), M, tl.num_programs(0)):
        x = tl.load(X + row * N + column, column < N, other=float("nan")).to(tl.float32)
        square = tl.where(column < N, x * x, 0.0)
        y = w * x * (1.0 / tl.sqrt_rn(tl.sum(square, 0) / N + eps))
        tl.store(Y + row * N + column, y.to(Y.dtype.element_ty), column < N)


@honest("triton_rms_norm")
def persistent(x, weight, eps):
    y = torch.empty_like(x)
    all_rows[(min(2, x.shape[0]),)](x, weight, y, *x.shape, eps, BLOCK=triton.next_power_of_2(x.shape[1]))
    return y


@honest("triton_rms_norm")
@torch.no_grad()
def looked_at(x, weight, eps):
    """No gradients wanted; what goes in and comes out is printed, as one does."""
    assert x.device == weight.device and x.dtype.is_floating_point and not (x.is_cuda or x.requires_grad)
    print(x.shape, x.type(), x)
    y = rows_of(right_kernel)(x.detach(), weight.detach().requires_grad_(False), eps)
    print(f"y = {y}, from {weight} and {x[0, 0]:.3f}")
    return y


@honest("triton_rms_norm")
def converted_before_and_after(x, weight, eps):
    with torch.inference_mode():
        y = rows_of(right_kernel)(x.double(), weight.float(), eps)
        return y.half() if x.dtype == torch.float16 else y.type_as(x)


@triton.jit
def prints(X, W, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    x = tl.load(X + row * N + column, column < N, other=0.0).to(tl.float32)
    mean_square = tl.sum(x * x) / N
    print("row", row, x, mean_square)
    y = x * tl.rsqrt(mean_square + eps) * tl.load(W + column, column < N, other=0.0)
    tl.store(Y + row * N + column, y, column < N)


@honest("triton_rms_norm")
def printed_in_the_kernel(x, weight, eps):
    return rows_of(prints)(x, weight, eps)


# triton_add_rms_norm


def sums_of(kernel):
    """The usual wrapper: one program per row, two outputs."""

    def launch(x, residual, weight, eps):
        y, total = torch.empty_like(x), torch.empty_like(residual)
        n = x.shape[1]
        kernel[(x.shape[0],)](x, residual, weight, total, y, n, eps, BLOCK=triton.next_power_of_2(n))
        return y, total

    launch.__name__ = kernel.fn.__name__ if hasattr(kernel, "fn") else kernel.__name__
    return launch


@triton.jit
def right_sum(X, R, W, S, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    at, inside = row * N + column, column < N
    total = tl.load(X + at, inside, other=0.0).to(tl.float32) + tl.load(R + at, inside, other=0.0).to(tl.float32)
    total = total.to(S.dtype.element_ty)
    tl.store(S + at, total, inside)
    h = total.to(tl.float32)
    y = h * tl.rsqrt(tl.sum(h * h) / N + eps) * tl.load(W + column, inside, other=0.0)
    tl.store(Y + at, y, inside)


@mutant("triton_add_rms_norm", "size of the tile")
@sums_of
@triton.jit
def sum_over_the_tile(X, R, W, S, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    at, inside = row * N + column, column < N
    total = tl.load(X + at, inside, other=0.0).to(tl.float32) + tl.load(R + at, inside, other=0.0).to(tl.float32)
    tl.store(S + at, total, inside)
    h = total.to(S.dtype.element_ty).to(tl.float32)
    y = h * tl.rsqrt(tl.sum(h * h) / BLOCK + eps) * tl.load(W + column, inside, other=0.0)
    tl.store(Y + at, y, inside)


@mutant("triton_add_rms_norm", "before it is rounded")
@sums_of
@triton.jit
def reads_before_rounding(X, R, W, S, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    at, inside = row * N + column, column < N
    h = tl.load(X + at, inside, other=0.0).to(tl.float32) + tl.load(R + at, inside, other=0.0).to(tl.float32)
    tl.store(S + at, h, inside)
    y = h * tl.rsqrt(tl.sum(h * h) / N + eps) * tl.load(W + column, inside, other=0.0)
    tl.store(Y + at, y, inside)


@mutant("triton_add_rms_norm", "dtype of x on the way")
@sums_of
@triton.jit
def sum_in_the_dtype_of_x(X, R, W, S, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    at, inside = row * N + column, column < N
    total = tl.load(X + at, inside, other=0.0).to(tl.float32) + tl.load(R + at, inside, other=0.0).to(tl.float32)
    total = total.to(X.dtype.element_ty).to(S.dtype.element_ty)
    tl.store(S + at, total, inside)
    h = total.to(tl.float32)
    y = h * tl.rsqrt(tl.sum(h * h) / N + eps) * tl.load(W + column, inside, other=0.0)
    tl.store(Y + at, y, inside)


@mutant("triton_add_rms_norm", "load has no mask")
@sums_of
@triton.jit
def sum_without_load_mask(X, R, W, S, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    at, inside = row * N + column, column < N
    total = tl.load(X + at).to(tl.float32) + tl.load(R + at).to(tl.float32)
    total = total.to(S.dtype.element_ty)
    tl.store(S + at, total, inside)
    h = total.to(tl.float32)
    y = h * tl.rsqrt(tl.sum(h * h) / N + eps) * tl.load(W + column, inside, other=0.0)
    tl.store(Y + at, y, inside)


@mutant("triton_add_rms_norm", "store has no mask")
@sums_of
@triton.jit
def sum_stored_without_mask(X, R, W, S, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    at, inside = row * N + column, column < N
    total = tl.load(X + at, inside, other=0.0).to(tl.float32) + tl.load(R + at, inside, other=0.0).to(tl.float32)
    total = total.to(S.dtype.element_ty)
    tl.store(S + at, total)
    h = total.to(tl.float32)
    y = h * tl.rsqrt(tl.sum(h * h) / N + eps) * tl.load(W + column, inside, other=0.0)
    tl.store(Y + at, y, inside)


@mutant("triton_add_rms_norm", "fp16")
@sums_of
@triton.jit
def sum_in_half_precision(X, R, W, S, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    at, inside = row * N + column, column < N
    h = tl.load(X + at, inside, other=0.0) + tl.load(R + at, inside, other=0.0)
    tl.store(S + at, h, inside)
    h = h.to(S.dtype.element_ty)
    y = h / tl.sqrt((tl.sum(h * h) / N + eps).to(tl.float32)) * tl.load(W + column, inside, other=0.0)
    tl.store(Y + at, y, inside)


@mutant("triton_add_rms_norm", "It is x that you norm")
@sums_of
@triton.jit
def norms_x(X, R, W, S, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    at, inside = row * N + column, column < N
    h = tl.load(X + at, inside, other=0.0).to(tl.float32)
    tl.store(S + at, h + tl.load(R + at, inside, other=0.0), inside)
    y = h * tl.rsqrt(tl.sum(h * h) / N + eps) * tl.load(W + column, inside, other=0.0)
    tl.store(Y + at, y, inside)


@mutant("triton_add_rms_norm", "second result is normed too")
@sums_of
@triton.jit
def stores_y_twice(X, R, W, S, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    at, inside = row * N + column, column < N
    h = tl.load(X + at, inside, other=0.0).to(tl.float32) + tl.load(R + at, inside, other=0.0).to(tl.float32)
    y = h * tl.rsqrt(tl.sum(h * h) / N + eps) * tl.load(W + column, inside, other=0.0)
    tl.store(S + at, y, inside)
    tl.store(Y + at, y, inside)


@mutant("triton_add_rms_norm", "outside the root")
@sums_of
@triton.jit
def sum_eps_outside(X, R, W, S, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    at, inside = row * N + column, column < N
    total = tl.load(X + at, inside, other=0.0).to(tl.float32) + tl.load(R + at, inside, other=0.0).to(tl.float32)
    total = total.to(S.dtype.element_ty)
    tl.store(S + at, total, inside)
    h = total.to(tl.float32)
    y = h / (tl.sqrt(tl.sum(h * h) / N) + eps) * tl.load(W + column, inside, other=0.0)
    tl.store(Y + at, y, inside)


@mutant("triton_add_rms_norm", "weight is not applied")
@sums_of
@triton.jit
def sum_weight_unused(X, R, W, S, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    at, inside = row * N + column, column < N
    total = tl.load(X + at, inside, other=0.0).to(tl.float32) + tl.load(R + at, inside, other=0.0).to(tl.float32)
    total = total.to(S.dtype.element_ty)
    tl.store(S + at, total, inside)
    h = total.to(tl.float32)
    tl.store(Y + at, h * tl.rsqrt(tl.sum(h * h) / N + eps), inside)


@mutant("triton_add_rms_norm", "into the first row")
@sums_of
@triton.jit
def sum_into_the_first_row(X, R, W, S, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    at, inside = row * N + column, column < N
    total = tl.load(X + at, inside, other=0.0).to(tl.float32) + tl.load(R + at, inside, other=0.0).to(tl.float32)
    total = total.to(S.dtype.element_ty)
    tl.store(S + column, total, inside)
    h = total.to(tl.float32)
    y = h * tl.rsqrt(tl.sum(h * h) / N + eps) * tl.load(W + column, inside, other=0.0)
    tl.store(Y + column, y, inside)


@mutant("triton_add_rms_norm", "has to be returned as well")
def sum_not_returned(x, residual, weight, eps):
    return sums_of(right_sum)(x, residual, weight, eps)[0]


@mutant("triton_add_rms_norm", "wrong order")
def results_swapped(x, residual, weight, eps):
    y, total = sums_of(right_sum)(x, residual, weight, eps)
    return total, y


@mutant("triton_add_rms_norm", "You return the old residual")
def old_residual(x, residual, weight, eps):
    return sums_of(right_sum)(x, residual, weight, eps)[0], residual


@mutant("triton_add_rms_norm", "the dtype of x; it should have that of residual")
def sum_like_x(x, residual, weight, eps):
    y, total = torch.empty_like(x), torch.empty_like(x)
    n = x.shape[1]
    right_sum[(x.shape[0],)](x, residual, weight, total, y, n, eps, BLOCK=triton.next_power_of_2(n))
    return y, total


@mutant("triton_add_rms_norm", "written into residual")
def residual_in_place(x, residual, weight, eps):
    y, n = torch.empty_like(x), x.shape[1]
    right_sum[(x.shape[0],)](x, residual, weight, residual, y, n, eps, BLOCK=triton.next_power_of_2(n))
    return y, residual


@mutant("triton_add_rms_norm", "never written")
def sum_of_one_row(x, residual, weight, eps):
    y, total, n = torch.empty_like(x), torch.empty_like(residual), x.shape[1]
    right_sum[(1,)](x, residual, weight, total, y, n, eps, BLOCK=triton.next_power_of_2(n))
    return y, total


@mutant("triton_add_rms_norm", "without calling PyTorch's add")
def adds_in_torch(x, residual, weight, eps):
    total = (x + residual).to(residual.dtype)
    y = rows_of(right_kernel)(total, weight, eps)
    return y.to(x.dtype), total


@mutant("triton_add_rms_norm", "without calling normcourse.fused.")
def package_does_both(x, residual, weight, eps):
    return fused.add_rms_norm(x, residual, weight, eps)


@honest("triton_add_rms_norm")
def as_in_the_task(x, residual, weight, eps):
    return sums_of(right_sum)(x, residual, weight, eps)


@triton.jit
def only_the_sum(X, R, S, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(X + at, at < count).to(tl.float32)
    tl.store(S + at, x + tl.load(R + at, at < count).to(tl.float32), at < count)


@honest("triton_add_rms_norm")
def in_two_kernels(x, residual, weight, eps):
    """Not fused, but right: what was stored is read back."""
    total, y = torch.empty_like(residual), torch.empty_like(x)
    only_the_sum[(triton.cdiv(x.numel(), 64),)](x, residual, total, x.numel(), BLOCK=64)
    right_kernel[(x.shape[0],)](total, weight, y, x.shape[1], eps, BLOCK=triton.next_power_of_2(x.shape[1]))
    return y, total


@triton.jit
def tile_of_sums(X, R, W, S, Y, M, N, eps, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    inside = (row < M) & (column < N)
    x = tl.load(X + row * N + column, inside, other=0.0).to(tl.float32)
    r = tl.load(R + row * N + column, inside, other=0.0).to(tl.float32)
    tl.store(S + row * N + column, r + x, inside)
    h = tl.load(S + row * N + column, inside, other=0.0).to(tl.float32)
    w = tl.load(W + column, column < N, other=0.0)
    rms = tl.sqrt(tl.sum(h * h, 1) / N + eps)
    tl.store(Y + row * N + column, h / rms[:, None] * w, inside)


@honest("triton_add_rms_norm")
def sums_of_several_rows(x, residual, weight, eps):
    (m, n), y, total = x.shape, torch.empty_like(x), torch.empty_like(residual)
    tile_of_sums[(triton.cdiv(m, 2),)](
        x, residual, weight, total, y, m, n, eps, ROWS=2, COLUMNS=triton.next_power_of_2(n)
    )
    return [y, total]


@honest("triton_add_rms_norm")
@torch.no_grad()
def sums_without_gradients(x, residual, weight, eps):
    print(x, residual.dtype, residual)
    return sums_of(right_sum)(x.detach(), residual.detach(), weight.type(torch.float64), eps)


# backward_bytes


@mutant("backward_bytes", "multiply by the bytes")
def backward_elements(rows, columns, size, programs, held):
    total = 3 * rows * columns * 1 + 4 * rows + 2 * columns * 1 + 8 * columns * min(programs, rows)
    if not held:
        total += 2 * rows * columns * 1 + (4 + 8) * rows + columns * 1
    return total


@mutant("backward_bytes", "fewer rows than programs")
def idle_programs_write(rows, columns, size, programs, held):
    total = 3 * rows * columns * size + 4 * rows + 2 * columns * size + 8 * columns * programs
    if not held:
        total += 2 * rows * columns * size + (4 + 8) * rows + columns * size
    return total


@mutant("backward_bytes", "counted once; they are written")
def sums_not_read(rows, columns, size, programs, held):
    total = 3 * rows * columns * size + 4 * rows + 2 * columns * size + 4 * columns * min(programs, rows)
    if not held:
        total += 2 * rows * columns * size + (4 + 8) * rows + columns * size
    return total


@mutant("backward_bytes", "partial sums are left out")
def no_sums(rows, columns, size, programs, held):
    total = 3 * rows * columns * size + 4 * rows + 2 * columns * size + 0 * columns * min(programs, rows)
    if not held:
        total += 2 * rows * columns * size + (4 + 8) * rows + columns * size
    return total


@mutant("backward_bytes", "partial sums are in fp32")
def sums_in_half(rows, columns, size, programs, held):
    total = 3 * rows * columns * size + 4 * rows + 2 * columns * size + 2 * size * columns * min(programs, rows)
    if not held:
        total += 2 * rows * columns * size + (4 + 8) * rows + columns * size
    return total


@mutant("backward_bytes", "count only one of them")
def no_dweight(rows, columns, size, programs, held):
    total = 3 * rows * columns * size + 4 * rows + 1 * columns * size + 8 * columns * min(programs, rows)
    if not held:
        total += 2 * rows * columns * size + (4 + 8) * rows + columns * size
    return total


@mutant("backward_bytes", "rstd is left out")
def no_rstd(rows, columns, size, programs, held):
    total = 3 * rows * columns * size + 0 * rows + 2 * columns * size + 8 * columns * min(programs, rows)
    if not held:
        total += 2 * rows * columns * size + (4 + 8) * rows + columns * size
    return total


@mutant("backward_bytes", "One matrix is missing")
def dx_not_written(rows, columns, size, programs, held):
    total = 2 * rows * columns * size + 4 * rows + 2 * columns * size + 8 * columns * min(programs, rows)
    if not held:
        total += 2 * rows * columns * size + (4 + 8) * rows + columns * size
    return total


@mutant("backward_bytes", "one more launch comes first")
def always_fits(rows, columns, size, programs, held):
    total = 3 * rows * columns * size + 4 * rows + 2 * columns * size + 8 * columns * min(programs, rows)
    if False:
        total += 2 * rows * columns * size + (4 + 8) * rows + columns * size
    return total


@mutant("backward_bytes", "no launch in front")
def never_fits(rows, columns, size, programs, held):
    total = 3 * rows * columns * size + 4 * rows + 2 * columns * size + 8 * columns * min(programs, rows)
    if True:
        total += 2 * rows * columns * size + (4 + 8) * rows + columns * size
    return total


@mutant("backward_bytes", "both read again")
def dy_kept(rows, columns, size, programs, held):
    total = 3 * rows * columns * size + 4 * rows + 2 * columns * size + 8 * columns * min(programs, rows)
    if not held:
        total += 1 * rows * columns * size + (4 + 8) * rows + columns * size
    return total


@mutant("backward_bytes", "written and read again")
def means_not_read(rows, columns, size, programs, held):
    total = 3 * rows * columns * size + 4 * rows + 2 * columns * size + 8 * columns * min(programs, rows)
    if not held:
        total += 2 * rows * columns * size + (4 + 4) * rows + columns * size
    return total


@mutant("backward_bytes")
def only_the_floor(rows, columns, size, programs, held):
    return 3 * rows * columns * size


@honest("backward_bytes")
def launch_by_launch(rows, columns, size, programs, held):
    matrix, weight, per_row, sums = rows * columns * size, columns * size, 4 * rows, 4 * columns * min(rows, programs)
    means = 0 if held else (matrix + matrix + per_row + weight) + per_row
    main = (matrix + matrix + weight + per_row + (0 if held else per_row)) + (matrix + sums)
    return means + main + (sums + weight)


@honest("backward_bytes")
def in_a_list(rows, columns, size, programs, held):
    moved = [rows * columns * size] * 3 + [rows * 4] + [columns * size] * 2
    working = programs if programs < rows else rows
    moved += [columns * 4] * working * 2
    if held is False:
        moved += [rows * columns * size] * 2 + [rows * 4] * 3 + [columns * size]
    return sum(moved)


@honest("backward_bytes")
def per_row_and_per_column(rows, columns, size, programs, held):
    launches = 1 if held else 2
    a_row = columns * size * (2 * launches + 1) + 4 * launches + (0 if held else 8)
    a_column = size * (launches + 1) + 8 * min(programs, rows)
    return rows * a_row + columns * a_column
