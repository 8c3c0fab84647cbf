"""Right answers to `triton_rms_norm` as people write them, for the second world: {what it shows: cells}."""

IMPORTS = "import torch\nimport triton\nimport triton.language as tl"
ROWS = """@triton.jit
def kernel(X, W, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < N
    x = tl.load(X + row * N + column, inside, other=0.0).to(tl.float32)
    w = tl.load(W + column, inside, other=0.0).to(tl.float32)
    tl.store(Y + row * N + column, x * tl.rsqrt(tl.sum(x * x) / N + eps) * w, inside)"""
LAUNCH = """def triton_rms_norm(x, weight, eps):
    y, (m, n) = torch.empty_like(x), x.shape
    kernel[(m,)](x, weight, y, n, eps, BLOCK=triton.next_power_of_2(n))
    return y"""

STYLES = {
    "plain": [IMPORTS, ROWS, LAUNCH],
    "tutorial": [
        IMPORTS,
        '''@triton.jit
def _rms_norm_fwd(
    X,  # pointer to the input
    Y,  # pointer to the output
    W,  # pointer to the weights
    stride,  # how much to increase the pointer when moving by 1 row
    N,  # number of columns in X
    eps,  # epsilon to avoid division by zero
    BLOCK_SIZE: tl.constexpr,
):
    """Map the program id to the row of X and Y it should compute."""
    row = tl.program_id(0)
    Y += row * stride
    X += row * stride
    _var = tl.zeros([BLOCK_SIZE], dtype=tl.float32)
    for off in range(0, N, BLOCK_SIZE):
        cols = off + tl.arange(0, BLOCK_SIZE)
        x = tl.load(X + cols, mask=cols < N, other=0.).to(tl.float32)
        x = tl.where(cols < N, x, 0.)
        _var += x * x
    var = tl.sum(_var, axis=0) / N
    rstd = 1 / tl.sqrt(var + eps)
    for off in range(0, N, BLOCK_SIZE):
        cols = off + tl.arange(0, BLOCK_SIZE)
        mask = cols < N
        w = tl.load(W + cols, mask=mask)
        x = tl.load(X + cols, mask=mask, other=0.).to(tl.float32)
        tl.store(Y + cols, x * rstd * w, mask=mask)''',
        """def triton_rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    y = torch.empty_like(x)
    x_arg = x.reshape(-1, x.shape[-1])
    M, N = x_arg.shape
    MAX_FUSED_SIZE = 65536 // x.element_size()
    BLOCK_SIZE = min(MAX_FUSED_SIZE, triton.next_power_of_2(N))
    if N > BLOCK_SIZE:
        raise RuntimeError("This layer norm doesn't support feature dim >= 64KB.")
    num_warps = min(max(BLOCK_SIZE // 256, 1), 8)
    _rms_norm_fwd[(M, )](x_arg, y, weight, x_arg.stride(0), N, eps, BLOCK_SIZE=BLOCK_SIZE, num_warps=num_warps,
                         num_ctas=1, num_stages=2)
    return y""",
    ],
    "grid as a function": [
        IMPORTS,
        """@triton.jit
def kernel(X, W, Y, M, N, eps, ROWS: tl.constexpr = 2, COLUMNS: tl.constexpr = 128):
    row = tl.program_id(axis=0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    mask = (row < M) & (column < N)
    x = tl.load(X + row * N + column, mask=mask, other=0.0).to(tl.float32)
    rms = tl.sqrt(tl.sum(x * x, axis=1) / N + eps)
    w = tl.load(W + column, mask=column < N)
    tl.store(Y + row * N + column, x / rms[:, None] * w, mask=mask)""",
        """def triton_rms_norm(x, weight, eps):
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    m, n = x.shape
    grid = lambda meta: (triton.cdiv(m, meta["ROWS"]),)
    kernel[grid](x, weight, y, m, n, eps)
    return y""",
    ],
    "hints to the compiler": [
        IMPORTS,
        ROWS.replace("@triton.jit", "@triton.jit(do_not_specialize=['eps'], noinline=True)")
        .replace("tl.arange(0, BLOCK)", "tl.max_contiguous(tl.multiple_of(tl.arange(0, BLOCK), BLOCK), BLOCK)")
        .replace("other=0.0)", "other=0.0, eviction_policy='evict_last', cache_modifier='.cg')"),
        LAUNCH,
    ],
    "constants around": [
        IMPORTS + "\nZERO: tl.constexpr = 0.0\nWIDE = tl.constexpr(tl.float32)\nHALF = 0.5",
        ROWS.replace("other=0.0", "other=ZERO")
        .replace("tl.float32", "WIDE")
        .replace("x * tl.rsqrt", "HALF * 2 * x * tl.rsqrt"),
        LAUNCH,
    ],
    "kernels that call others": [
        IMPORTS,
        "@triton.jit\ndef square(x):\n    return x * x\n\n\n@triton.jit\ndef stats(x, N, eps):\n"
        "    ms = tl.sum(square(x), axis=0) / N\n    return ms, 1 / tl.sqrt(ms + eps)",
        ROWS.replace("    tl.store", "    ms, rstd = stats(x, N, eps)\n    tl.store").replace(
            "tl.rsqrt(tl.sum(x * x) / N + eps)", "rstd"
        ),
        LAUNCH,
    ],
    "a class": [
        IMPORTS,
        ROWS,
        """class RMSNorm(torch.nn.Module):
    def __init__(self, block=128):
        super().__init__()
        self.block = block

    def forward(self, x, weight, eps):
        y = x.new_empty(x.shape)
        kernel[(x.size(0),)](x, weight, y, x.size(1), eps, BLOCK=self.block)
        return y


triton_rms_norm = RMSNorm()""",
    ],
    "other imports": [
        "from triton import cdiv, jit, next_power_of_2\nfrom triton import language as tl\nimport torch, math",
        ROWS.replace("@triton.jit", "@jit").replace("tl.rsqrt", "tl.math.rsqrt"),
        LAUNCH.replace("triton.next_power_of_2(n)", "next_power_of_2(n) if n > 1 else 2 ** math.ceil(math.log2(n))"),
    ],
    "the notebook's own imports": [
        'import os\n\nos.environ["TRITON_INTERPRET"] = "1"\n\nimport torch\n\n'
        "from normcourse.check import check, no_triton\n\ntry:\n    import triton\n    import triton.language as tl\n"
        "except ImportError:\n    print('no Triton')\n    triton = tl = no_triton",
        ROWS,
        LAUNCH,
    ],
    "fp64 throughout": [
        IMPORTS,
        ROWS.replace("tl.float32", "tl.float64").replace("tl.store(Y", "tl.store(Y", 1),
        """def triton_rms_norm(x, weight, eps):
    x64, y = x.double().contiguous(), torch.zeros(x.shape, dtype=torch.float64)
    kernel[(x.shape[0], 1)](x64, weight.to(torch.float64), y, x.shape[1], eps, BLOCK=256)
    return y.to(x.dtype)""",
    ],
    "block pointers": [
        IMPORTS,
        """@triton.jit
def kernel(X, W, Y, M, N, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.make_block_ptr(X, shape=(M, N), strides=(N, 1), offsets=(row, 0), block_shape=(1, BLOCK), order=(1, 0))
    x = tl.load(at, boundary_check=(0, 1), padding_option="zero").to(tl.float32)
    column = tl.arange(0, BLOCK)
    w = tl.load(W + column, mask=column < N, other=0.0)
    y = x * tl.rsqrt(tl.sum(x * x, axis=1, keep_dims=True) / N + eps) * w[None, :]
    to = tl.make_block_ptr(Y, shape=(M, N), strides=(N, 1), offsets=(row, 0), block_shape=(1, BLOCK), order=(1, 0))
    tl.store(to, y.to(Y.dtype.element_ty), boundary_check=(0, 1))""",
        LAUNCH.replace("y, n, eps", "y, m, n, eps"),
    ],
    "a reduction of one's own": [
        IMPORTS + "\n\n\n@triton.jit\ndef add(a, b):\n    return a + b",
        ROWS.replace("tl.sum(x * x)", "tl.reduce(x * x, 0, add)"),
        LAUNCH,
    ],
    "two launches": [
        IMPORTS,
        """@triton.jit
def statistics(X, Rstd, N, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for start in tl.range(0, N, BLOCK, num_stages=2):
        at = start + tl.arange(0, BLOCK)
        x = tl.load(X + row * N + at, at < N, other=0.0).to(tl.float32)
        total += tl.sum(x * x)
    tl.store(Rstd + row, tl.rsqrt(total / N + eps))


@triton.jit
def scale(X, W, Rstd, Y, count, N, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < count
    x, rstd = tl.load(X + at, mask).to(tl.float32), tl.load(Rstd + at // N, mask)
    tl.store(Y + at, x * rstd * tl.load(W + at % N, mask), mask)""",
        """def triton_rms_norm(x, weight, eps):
    x = x.contiguous()
    (m, n), y = x.shape, torch.empty_like(x)
    rstd = torch.empty(m, dtype=torch.float32, device=x.device)
    statistics[(m,)](x, rstd, n, eps, BLOCK=64)
    scale[(triton.cdiv(x.numel(), 64),)](x, weight, rstd, y, x.numel(), n, BLOCK=64)
    return y""",
    ],
    "loops, conditions and assertions": [
        IMPORTS,
        """@triton.jit
def kernel(X, W, Y, M, N, eps, HAS_WEIGHT: tl.constexpr, BLOCK: tl.constexpr):
    tl.static_assert(BLOCK >= 1, f"BLOCK is {BLOCK}")
    lane = tl.arange(0, BLOCK)
    row = tl.program_id(0)
    while row < M:
        at = row * N + lane
        x = tl.load(X + at, mask=lane < N, other=0.0).to(tl.float32)
        y = x / tl.sqrt(tl.sum(x * x, 0) / N + eps)
        if HAS_WEIGHT:
            y = y * tl.load(W + lane, mask=lane < N, other=1.0)
        else:
            pass
        for _ in tl.static_range(1):
            tl.device_print("row", row)
            tl.debug_barrier()
        tl.store(Y + at, y, mask=lane < N)
        row += tl.num_programs(0)""",
        """def triton_rms_norm(x, weight, eps):
    y, (m, n) = torch.empty_like(x), x.shape
    kernel[(2,)](X=x, W=weight, Y=y, M=m, N=n, eps=eps, HAS_WEIGHT=weight is not None,
                 BLOCK=triton.next_power_of_2(n))
    return y""",
    ],
    "checks and messages": [
        IMPORTS + "\nimport logging, time\nfrom dataclasses import dataclass\nlog = logging.getLogger(__name__)",
        ROWS,
        """@dataclass
class Config:
    warps: int = 4

    def block(self, n): return max(16, triton.next_power_of_2(n))


def triton_rms_norm(x, weight, eps):
    assert isinstance(x, torch.Tensor) and x.ndim == 2 and x.is_contiguous(), f"{x.shape} {x}"
    assert weight.numel() == x.shape[-1] and x.device == weight.device and not x.is_cuda
    config, start = Config(), time.perf_counter()
    with torch.no_grad():
        y = torch.empty_like(x)
        kernel[(len(x),)](x, weight, y, x.shape[-1], eps, BLOCK=config.block(x.shape[-1]), num_warps=config.warps)
    log.info("%s took %s", y, time.perf_counter() - start)
    print("y =", y, f"{y[0, 0]:.3f}", "{}".format(y), str(x), "%s" % weight)
    return y""",
    ],
    "masked after loading": [
        IMPORTS,
        ROWS.replace("inside, other=0.0).to(tl.float32)\n    w", "inside).to(tl.float32)\n    w").replace(
            "x = tl.load(X + row * N + column, inside)", "x = tl.where(inside, tl.load(X + row * N + column), 0.0)"
        ),
        LAUNCH,
    ],
    "flat memory": [
        IMPORTS,
        ROWS,
        """def triton_rms_norm(x, weight, eps):
    shape = x.size()
    flat, y = x.view(-1), torch.empty(x.numel(), dtype=x.dtype)
    kernel[(shape[0],)](flat, weight.detach(), y, shape[1], eps, BLOCK=1 << (shape[1] - 1).bit_length())
    return y.view(shape)""",
    ],
    "a row padded to a power of two": [
        IMPORTS,
        """@triton.jit
def kernel(X, W, Y, N, stride, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    x = tl.load(X + row * N + column, column < N, other=0.0).to(tl.float32)
    w = tl.load(W + column, column < N, other=0.0)
    tl.store(Y + row * stride + column, x * tl.rsqrt(tl.sum(x * x) / N + eps) * w)""",
        """def triton_rms_norm(x, weight, eps):
    (m, n), block = x.shape, triton.next_power_of_2(x.shape[1])
    padded = x.new_empty(m, block)
    kernel[(m,)](x, weight, padded, n, padded.stride(0), eps, BLOCK=block)
    return padded[:, :n].contiguous()""",
    ],
    "a kernel made by a function": [
        IMPORTS,
        "def make():\n"
        + "\n".join(f"    {line}" for line in ROWS.splitlines())
        + "\n    return kernel\n\n\nkernel = make()",
        LAUNCH,
    ],
    "jit as a function": [IMPORTS, ROWS.replace("@triton.jit\n", "") + "\n\n\nkernel = triton.jit(kernel)", LAUNCH],
    "a file": [
        f"%%writefile mine.py\nimport triton\nimport triton.language as tl\n{ROWS}",
        "import torch, triton\nfrom mine import kernel",
        LAUNCH,
    ],
    "decorators": [
        IMPORTS + "\nimport functools",
        ROWS,
        """def counted(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        wrapper_calls.append(function.__name__)
        return function(*args, **kwargs)
    wrapper.__name__ = function.__name__
    return wrapper


wrapper_calls = []


@counted
@torch.inference_mode()
"""
        + LAUNCH,
    ],
    "autograd.Function": [
        IMPORTS,
        ROWS,
        """class RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, eps):
        y = torch.empty_like(x)
        kernel[(x.shape[0],)](x, weight, y, x.shape[1], eps, BLOCK=triton.next_power_of_2(x.shape[1]))
        return y


triton_rms_norm = RMSNorm.apply""",
    ],
}
REVIEWED = {
    "numpy on shapes": [IMPORTS + "\nimport numpy as np", ROWS, LAUNCH.replace("kernel[(m,)]", "kernel[(int(np.prod(x.shape[:1])),)]")],
    "autotune": [
        IMPORTS,
        ROWS.replace("@triton.jit", "@triton.autotune(configs=[triton.Config({}, num_warps=4)], key=['N'])\n@triton.jit"),
        LAUNCH,
    ],
}  # fmt: skip
