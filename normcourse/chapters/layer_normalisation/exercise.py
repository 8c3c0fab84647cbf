"""The figures of exercise 03. Each takes the functions that the learner wrote."""

import pandas as pd
import torch

from ... import canvas
from ...explore import explore
from ...i18n import text
from ..figures import figure


@figure
def shrunk_by_eps(layer_norm):
    def experiment(log10_eps=-5):
        std, eps = torch.logspace(-5, 1, 25), 10.0**log10_eps
        y = layer_norm(std[:, None] * torch.tensor([-1.0, 1.0] * 32), eps=eps)
        return pd.DataFrame(
            {"std": std, "out": y.std(-1, unbiased=False), "theory": std / (std**2 + eps).sqrt()}, dtype=float
        )

    def draw(frame, ax):
        canvas.setup(
            ax,
            ("输入的标准差 σ", "std of the input σ"),
            ("输出的标准差", "std of the output"),
            (1e-5, 10),
            (0, 1.1),
            xscale="log",
        )
        canvas.curve(ax, "yours", frame["std"], frame["out"], label=text("你的", "yours"))
        canvas.theory(ax, "theory", frame["std"], frame["theory"], label="σ / √(σ² + ε)")
        half = frame["std"][frame["out"] > 0.5].min()
        canvas.finding(ax, f"σ 小于约 {half:.1g} 时，ε 说了算", f"Below σ ≈ {half:.1g} it is ε that decides")

    return explore(experiment, draw, log10_eps=(-8, 0))


@figure
def what_is_left(layer_norm_backward):
    def experiment(seed=0):
        rows, g = [], torch.Generator().manual_seed(seed)
        for d in (3, 4, 6, 10, 18, 32, 64, 128):
            x, dy = torch.randn(2, 1000, d, generator=g, dtype=torch.float64)
            dx, _, _ = layer_norm_backward(dy, x, torch.ones(d, dtype=torch.float64))
            cosines = [torch.cosine_similarity(dx, v, -1).square().mean().sqrt() for v in (dy, x, torch.ones_like(x))]
            rows.append((d, *map(float, cosines), (1 - 2 / d) ** 0.5))
        return pd.DataFrame(rows, columns=["d", "dy", "x", "ones", "theory"])

    def draw(frame, ax):
        axes = ("特征数 d", "features d"), ("与 dx 的余弦", "cosine with dx")
        canvas.setup(ax, *axes, (3, 128), (-0.1, 1.1), xscale="log")
        canvas.curve(ax, "dy", frame["d"], frame["dy"], label="dy", color=canvas.BLUE)
        canvas.curve(ax, "x", frame["d"], frame["x"], label=text("x，全 1", "x, all ones"), color=canvas.VERMILLION)
        canvas.curve(ax, "ones", frame["d"], frame["ones"], color=canvas.ORANGE)
        canvas.theory(ax, "theory", frame["d"], frame["theory"], label="√(1 − 2/d)", at=10)
        canvas.finding(
            ax, "dx 与 x、与全 1 都正交：d 个方向少了两个", "dx is orthogonal to x and to 1: two of d directions gone"
        )

    return explore(experiment, draw, seed=(0, 9))


@figure
def error_of_the_variance(welford):
    def experiment(values=100):
        means, rows = torch.logspace(0, 6, 19), []
        x = torch.randn(200, values, generator=torch.Generator().manual_seed(0))
        for mean in means.tolist():
            shifted = x + mean
            exact = shifted.double().var(-1, unbiased=False)
            textbook = shifted.square().mean(-1) - shifted.mean(-1).square()
            errors = [var.double() / exact - 1 for var in (welford(shifted)[1], textbook)]
            rows.append((mean, *(error.square().mean().sqrt().item() for error in errors)))
        return pd.DataFrame(rows, columns=["mean", "welford", "textbook"])

    def draw(frame, ax):
        canvas.setup(
            ax,
            ("均值（标准差是 1）", "mean (the std is 1)"),
            ("方差的相对误差", "relative error of the variance"),
            (1, 1e6),
            (1e-8, 1e6),
            "log",
            "log",
        )
        canvas.curve(ax, "welford", frame["mean"], frame["welford"], label="Welford", color=canvas.BLUE)
        canvas.curve(ax, "textbook", frame["mean"], frame["textbook"], label="E[x²] − E[x]²", color=canvas.VERMILLION)
        lost, kept = frame.loc[frame["mean"] > 9e3].iloc[0][["textbook", "welford"]]
        canvas.finding(
            ax,
            f"均值 10⁴：相减的误差 {canvas.number(lost)} 倍，Welford {canvas.number(kept)}",
            f"Mean 10⁴: off by {canvas.number(lost)} with the subtraction, by {canvas.number(kept)} with Welford",
        )

    return explore(experiment, draw, values=(10, 200, 10))
