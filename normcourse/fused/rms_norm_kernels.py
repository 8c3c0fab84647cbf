"""The kernels of RMSNorm, alone or with the addition of a residual in front of it: `layer_norm_kernels` without
the mean.

What is said there about tiles, pointers that are None, dtypes and wide rows holds here too. `offset` is added to w:
with 1.0 the weight that is stored is the difference from 1, as in Gemma. The sum is made in fp32, so that a bf16 weight
smaller than 2⁻⁹ is not lost beside the 1.
Sources: Zhang & Sennrich (2019), equation 4, and the derivative of `norms.rms_norm_backward`.
"""

from .interpreter import constexpr, round_to, rsqrt, tl, triton


@triton.jit(do_not_specialize=["M"])
def forward(
    X, Residual, W, Sum, Y, Rstd, M, N: constexpr, eps: constexpr, offset: constexpr, ROWS: constexpr,
    COLUMNS: constexpr,
):  # fmt: skip
    """A tile of whole rows, read once:

    x    = X, or X + Residual rounded to Sum's dtype, so that the norm reads what the next block will read
    rstd = 1 / √(Σ x² / N + eps)
    y    = x·rstd·(w + offset)
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]  # 64-bit: M·N may exceed 2³¹
    column = tl.arange(0, COLUMNS)[None, :]
    at, inside = row * N + column, (row < M) & (column < N)
    wide = Rstd.dtype.element_ty

    x = tl.load(X + at, inside, other=0.0).to(wide)
    if Residual is not None:
        total = round_to(x + tl.load(Residual + at, inside, other=0.0).to(wide), Sum.dtype.element_ty)
        tl.store(Sum + at, total, inside)
        x = total.to(wide)

    rstd = rsqrt(tl.sum(x * x, 1, keep_dims=True) / N + eps)
    y = x * rstd
    if W is not None:
        y *= tl.load(W + column, column < N, other=0.0).to(wide) + offset

    tl.store(Y + at, round_to(y, Y.dtype.element_ty), inside)
    tl.store(Rstd + row, rstd, row < M)


@triton.jit(do_not_specialize=["M"])
def backward(
    DY, X, W, Rstd, GXMean, DSum, DX, DResidual, DW, M, N: constexpr, offset: constexpr,
    ROWS: constexpr, COLUMNS: constexpr, STAGES: constexpr,
):  # fmt: skip
    """With x̂ = x·rstd and g = dy·(w + offset):

    dx = rstd·(g − x̂·mean(g·x̂)) [+ dsum]     the gradient of X and of Residual alike
    dw = Σ dy·x̂                               summed over rows

    Programs, partial sums and wide rows as in `layer_norm_kernels.backward`.
    """
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    wide = Rstd.dtype.element_ty
    if W is not None:
        w = tl.load(W + column, column < N, other=0.0).to(wide) + offset
    dw = tl.zeros([ROWS, COLUMNS], wide)

    for tile in tl.range(tl.program_id(0), tl.cdiv(M, ROWS), tl.num_programs(0), num_stages=STAGES):
        row = tl.cast(tile, tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
        at, inside = row * N + column, (row < M) & (column < N)
        dy = tl.load(DY + at, inside, other=0.0).to(wide)
        rstd = tl.load(Rstd + row, row < M, other=0.0)
        x_hat = tl.load(X + at, inside, other=0.0).to(wide) * rstd
        g = dy
        if W is not None:
            g = dy * w
        if GXMean is None:
            gx_mean = tl.sum(g * x_hat, 1, keep_dims=True) / N
        else:
            gx_mean = tl.load(GXMean + row, row < M, other=0.0)

        dx = rstd * (g - x_hat * gx_mean)
        if DSum is not None:
            dx += tl.load(DSum + at, inside, other=0.0).to(wide)
        tl.store(DX + at, round_to(dx, DX.dtype.element_ty), inside)
        if DResidual is not None:  # only where its dtype is not that of DX
            tl.store(DResidual + at, round_to(dx, DResidual.dtype.element_ty), inside)
        dw += dy * x_hat

    at = tl.program_id(0).to(tl.int64) * N + column
    if DW is not None:
        tl.store(DW + at, tl.sum(dw, 0, keep_dims=True), column < N)


@triton.jit
def forward_wide(
    X, Residual, W, Sum, Y, Rstd, N: constexpr, eps: constexpr, offset: constexpr, COLUMNS: constexpr,
    STAGES: constexpr,
):  # fmt: skip
    """One row that is too wide to hold, in blocks of COLUMNS: `forward`, reading the row again, out of cache."""
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, COLUMNS)
    wide = Rstd.dtype.element_ty
    squares = tl.zeros([COLUMNS], wide)
    for start in tl.range(0, N, COLUMNS, num_stages=STAGES):
        at, inside = row * N + start + lane, start + lane < N
        x = tl.load(X + at, inside, other=0.0).to(wide)
        if Residual is not None:
            total = round_to(x + tl.load(Residual + at, inside, other=0.0).to(wide), Sum.dtype.element_ty)
            tl.store(Sum + at, total, inside)
            x = total.to(wide)
        squares += x * x
    rstd = rsqrt(tl.sum(squares) / N + eps)
    tl.store(Rstd + row, rstd)

    if Residual is not None:
        X = Sum
        tl.debug_barrier()  # Sum is read back below, perhaps by another thread than wrote it
    for start in tl.range(0, N, COLUMNS, num_stages=STAGES):
        at, inside = row * N + start + lane, start + lane < N
        y = tl.load(X + at, inside, other=0.0).to(wide) * rstd
        if W is not None:
            y *= tl.load(W + start + lane, inside, other=0.0).to(wide) + offset
        tl.store(Y + at, round_to(y, Y.dtype.element_ty), inside)


@triton.jit
def backward_means(
    DY, X, W, Rstd, GXMean, N: constexpr, offset: constexpr, COLUMNS: constexpr, STAGES: constexpr
):  # fmt: skip
    """mean(g·x̂) of one wide row, for `backward`."""
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, COLUMNS)
    wide = Rstd.dtype.element_ty
    rstd = tl.load(Rstd + row)
    gx_sum = tl.zeros([COLUMNS], wide)
    for start in tl.range(0, N, COLUMNS, num_stages=STAGES):
        at, inside = row * N + start + lane, start + lane < N
        g = tl.load(DY + at, inside, other=0.0).to(wide)
        if W is not None:
            g *= tl.load(W + start + lane, inside, other=0.0).to(wide) + offset
        gx_sum += g * (tl.load(X + at, inside, other=0.0).to(wide) * rstd)
    tl.store(GXMean + row, tl.sum(gx_sum) / N)
