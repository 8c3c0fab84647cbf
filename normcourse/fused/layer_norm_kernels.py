"""The kernels of LayerNorm, alone or with the addition of a residual in front of it.

x is a dense (M, N) matrix; a tile is the rectangle of it that one program holds in registers. A pointer that is None
stands for what the caller left out, and its lines are not compiled. Everything is computed in the dtype of the saved
rstd, fp32 (fp64 for fp64): a load is widened at once, a store is rounded once. Lanes outside the matrix load as 0.

`forward` and `backward` take rows that fit a tile. Wider rows go through `forward_wide`, and through `backward_means`
before `backward`. Sources: Ba, Kiros & Hinton (2016), section 3, and the derivative of `norms.layer_norm_backward`.
"""

from .interpreter import constexpr, round_to, rsqrt, tl, triton


@triton.jit
def scale_and_shift(x_hat, W, B, column, inside):
    """x̂·w + b with one rounding."""
    b = 0.0
    if B is not None:
        b = tl.load(B + column, inside, other=0.0).to(x_hat.dtype)
    if W is None:
        return x_hat + b
    return tl.fma(x_hat, tl.load(W + column, inside, other=0.0).to(x_hat.dtype), b)


@triton.jit(do_not_specialize=["M"])
def forward(
    X, Residual, W, B, Sum, Y, Mean, Rstd, M, N: constexpr, eps: constexpr, ROWS: constexpr, COLUMNS: constexpr
):
    """A tile of whole rows, read once:

    x    = X, or X + Residual rounded to Sum's dtype, so that the norm reads what the next block will read
    mean = Σ x / N               and what rounding left of it: Σ (x − mean) / N
    var  = Σ (x − mean)² / N     a second pass over registers; Σ x²/N − mean² would cancel
    rstd = 1 / √(var + eps)
    y    = (x − mean)·rstd·w + b
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

    mean = tl.sum(x, 1, keep_dims=True) / N
    rest = tl.sum(tl.where(inside, x - mean, 0.0), 1, keep_dims=True) / N
    centred = tl.where(inside, x - mean - rest, 0.0)
    rstd = rsqrt(tl.sum(centred * centred, 1, keep_dims=True) / N + eps)
    y = scale_and_shift(centred * rstd, W, B, column, column < N)

    tl.store(Y + at, round_to(y, Y.dtype.element_ty), inside)
    tl.store(Mean + row, mean + rest, row < M)
    tl.store(Rstd + row, rstd, row < M)


@triton.jit(do_not_specialize=["M"])
def backward(
    DY, X, W, Mean, Rstd, GMean, GXMean, DSum, DX, DResidual, DW, DB, M, N: constexpr,
    ROWS: constexpr, COLUMNS: constexpr, STAGES: constexpr,
):  # fmt: skip
    """With x̂ = (x − mean)·rstd and g = dy·w:

    dx = rstd·(g − mean(g) − x̂·mean(g·x̂)) [+ dsum]     the gradient of X and of Residual alike
    dw = Σ dy·x̂,  db = Σ dy                              summed over rows

    Few programs, each going over many tiles and keeping its part of dw and db in registers until the end; row p of DW
    is the part of program p. Which rows it sums, and in which order, depends on M and the device alone, so dw has the
    same bits every time. mean(g) and mean(g·x̂) are computed here unless the row is wider than the tile: then
    `backward_means` has been over it, and axis 1 of the grid counts its blocks of COLUMNS.
    """
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    wide = Rstd.dtype.element_ty
    if W is not None:
        w = tl.load(W + column, column < N, other=0.0).to(wide)
    dw = tl.zeros([ROWS, COLUMNS], wide)
    db = tl.zeros([ROWS, COLUMNS], wide)

    for tile in tl.range(tl.program_id(0), tl.cdiv(M, ROWS), tl.num_programs(0), num_stages=STAGES):
        row = tl.cast(tile, tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
        at, inside = row * N + column, (row < M) & (column < N)
        dy = tl.load(DY + at, inside, other=0.0).to(wide)
        x = tl.load(X + at, inside, other=0.0).to(wide)
        rstd = tl.load(Rstd + row, row < M, other=0.0)
        x_hat = (x - tl.load(Mean + row, row < M, other=0.0)) * rstd
        g = dy
        if W is not None:
            g = dy * w
        if GMean is None:
            g_mean = tl.sum(g, 1, keep_dims=True) / N
            gx_mean = tl.sum(g * x_hat, 1, keep_dims=True) / N
        else:
            g_mean = tl.load(GMean + row, row < M, other=0.0)
            gx_mean = tl.load(GXMean + row, row < M, other=0.0)

        dx = rstd * (g - g_mean - x_hat * gx_mean)
        if DSum is not None:
            dx += tl.load(DSum + at, inside, other=0.0).to(wide)
        tl.store(DX + at, round_to(dx, DX.dtype.element_ty), inside)
        if DResidual is not None:  # only where its dtype is not that of DX
            tl.store(DResidual + at, round_to(dx, DResidual.dtype.element_ty), inside)
        dw += dy * x_hat
        db += dy

    at = tl.program_id(0).to(tl.int64) * N + column
    if DW is not None:
        tl.store(DW + at, tl.sum(dw, 0, keep_dims=True), column < N)
    if DB is not None:
        tl.store(DB + at, tl.sum(db, 0, keep_dims=True), column < N)


@triton.jit
def forward_wide(
    X, Residual, W, B, Sum, Y, Mean, Rstd, N: constexpr, eps: constexpr, COLUMNS: constexpr, STAGES: constexpr
):
    """One row that is too wide to hold, in blocks of COLUMNS: `forward` with the row read a second time, out of cache.

    Each lane follows the mean and the squares Σ (x − mean)² of what it alone has seen (Welford 1962); at the end the
    lanes are put together (Chan, Golub & LeVeque 1979): a lane with n elements adds its squares + n·(its mean − mean)².
    """
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, COLUMNS)
    wide = Rstd.dtype.element_ty
    lane_mean = tl.zeros([COLUMNS], wide)
    squares = tl.zeros([COLUMNS], wide)

    for start in tl.range(0, N, COLUMNS, num_stages=STAGES):
        at, inside = row * N + start + lane, start + lane < N
        x = tl.load(X + at, inside, other=0.0).to(wide)
        if Residual is not None:
            total = round_to(x + tl.load(Residual + at, inside, other=0.0).to(wide), Sum.dtype.element_ty)
            tl.store(Sum + at, total, inside)
            x = total.to(wide)
        step = tl.where(inside, x - lane_mean, 0.0)
        lane_mean += step / (start // COLUMNS + 1)
        squares += step * (x - lane_mean)

    n = (N - 1 - lane) // COLUMNS + 1
    mean = tl.sum(lane_mean * n) / N
    rstd = rsqrt(tl.sum(squares + n * (lane_mean - mean) * (lane_mean - mean)) / N + eps)
    tl.store(Mean + row, mean)
    tl.store(Rstd + row, rstd)

    if Residual is not None:
        X = Sum
        tl.debug_barrier()  # Sum is read back below, perhaps by another thread than wrote it
    for start in tl.range(0, N, COLUMNS, num_stages=STAGES):
        at, inside = row * N + start + lane, start + lane < N
        x = tl.load(X + at, inside, other=0.0).to(wide)
        y = scale_and_shift((x - mean) * rstd, W, B, start + lane, inside)
        tl.store(Y + at, round_to(y, Y.dtype.element_ty), inside)


@triton.jit
def backward_means(DY, X, W, Mean, Rstd, GMean, GXMean, N: constexpr, COLUMNS: constexpr, STAGES: constexpr):
    """mean(g) and mean(g·x̂) of one wide row, for `backward`."""
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, COLUMNS)
    wide = Rstd.dtype.element_ty
    mean, rstd = tl.load(Mean + row), tl.load(Rstd + row)
    g_sum = tl.zeros([COLUMNS], wide)
    gx_sum = tl.zeros([COLUMNS], wide)
    for start in tl.range(0, N, COLUMNS, num_stages=STAGES):
        at, inside = row * N + start + lane, start + lane < N
        g = tl.load(DY + at, inside, other=0.0).to(wide)
        if W is not None:
            g *= tl.load(W + start + lane, inside, other=0.0).to(wide)
        g_sum += g
        gx_sum += g * ((tl.load(X + at, inside, other=0.0).to(wide) - mean) * rstd)
    tl.store(GMean + row, tl.sum(g_sum) / N)
    tl.store(GXMean + row, tl.sum(gx_sum) / N)
