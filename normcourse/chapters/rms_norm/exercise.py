"""The figures of exercise 05. Each takes the functions that the learner wrote."""

import pandas as pd
import torch
import torch.nn.functional as F

from ... import canvas
from ...explore import explore
from ..figures import figure


@figure
def statistics(RMSNorm):
    def experiment(std=1.0):
        z = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
        m = torch.linspace(0, 5, 21)
        x = std * F.layer_norm(z, z.shape[-1:]) + m[:, None, None]
        rms, layer = RMSNorm(64)(x).detach(), F.layer_norm(x, x.shape[-1:])
        spread = {"rms_norm": rms.std(-1, unbiased=False), "layer_norm": layer.std(-1, unbiased=False)}
        columns = {name: values.mean(-1) for name, values in spread.items()} | {"mean": rms.mean((1, 2))}
        return pd.DataFrame({"m": m, "std": std, **columns}, dtype=float)

    def draw(frame, ax):
        m, std = frame["m"], frame["std"]
        canvas.setup(ax, ("输入的均值 m", "mean m of the input"), ("输出", "output"), (0, 5), (-0.05, 1.15))
        canvas.curve(ax, "layer_norm", m, frame["layer_norm"], label="LayerNorm\nstd", color=canvas.BLUE)
        canvas.curve(ax, "rms_norm", m, frame["rms_norm"], label="RMSNorm\nstd", color=canvas.ORANGE)
        canvas.curve(ax, "mean", m, frame["mean"], label="RMSNorm\nmean", color=canvas.GREY)
        canvas.theory(ax, "spread", m, std / (std**2 + m**2) ** 0.5, label="σ / √(σ² + m²)", at=1.5)
        canvas.theory(ax, "mean", m, m / (std**2 + m**2) ** 0.5)
        at_3 = frame.iloc[12]
        numbers = f"LayerNorm {at_3['layer_norm']:.2f}", f"RMSNorm {at_3['rms_norm']:.2f}"
        canvas.finding(
            ax,
            f"输入 m = 3，σ = {std[0]:.1f}；输出的标准差：{'，'.join(numbers)}",
            f"Input m = 3, σ = {std[0]:.1f}; std of the output: {', '.join(numbers)}",
        )

    return explore(experiment, draw, std=(0.2, 4.0, 0.2))


@figure
def how_far_apart(mean_share):
    def experiment(hidden_size=64):
        z = torch.randn(21, hidden_size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        x = F.layer_norm(z, (hidden_size,)) + torch.logspace(-2.5, 0.5, 21)[:, None]
        gap = F.rms_norm(x, (hidden_size,)) - F.layer_norm(x, (hidden_size,))
        return pd.DataFrame({"share": mean_share(x), "gap": gap.square().mean(-1).sqrt()})

    def draw(frame, ax):
        share, gap = frame["share"], frame["gap"]
        x, y = ("均值占功率的比例 s", "share s of the mean"), ("两个输出之差", "difference of the outputs")
        canvas.setup(ax, x, y, (1e-5, 1), (1e-3, 2), "log", "log")
        canvas.curve(ax, "gap", share, gap, color=canvas.BLUE, linestyle="")
        canvas.theory(ax, "theory", share, (2 - 2 * (1 - share).clip(0) ** 0.5) ** 0.5, label="√(2 − 2√(1 − s))")
        at = (share - 0.01).abs().idxmin()
        percent = f"{100 * share[at]:.1f}%", f"{100 * gap[at]:.0f}%"
        canvas.finding(
            ax,
            f"均值占功率的 {percent[0]}，两个输出就相差 {percent[1]}",
            f"With {percent[0]} of the power in the mean, the outputs are {percent[1]} apart",
        )

    return explore(experiment, draw, hidden_size=[4, 16, 64, 256])


@figure
def swapped(fold_layer_norm):
    def experiment(width=64):
        g = torch.Generator().manual_seed(0)
        A, W, u = torch.randn(3, width, width, generator=g, dtype=torch.float64)
        gamma, beta, a, b = torch.randn(4, width, generator=g, dtype=torch.float64)
        rows, size = [], (width,)
        for m in torch.linspace(0, 3, 13).tolist():
            shift = a + m * width**0.5  # the hidden state's spread is about √width
            y = F.linear(F.layer_norm(F.linear(u, A, shift), size, gamma, beta), W, b)
            only = F.linear(F.rms_norm(F.linear(u, A, shift), size, gamma, 1e-5) + beta, W, b)
            A_new, a_new, W_new, b_new = fold_layer_norm(A, shift, gamma, beta, W, b)
            folded = F.linear(F.rms_norm(F.linear(u, A_new, a_new), size, eps=1e-5), W_new, b_new)
            rows.append((m, *((other - y).norm().item() / y.norm().item() for other in (only, folded))))
        return pd.DataFrame(rows, columns=["m", "only", "folded"])

    def draw(frame, ax):
        x = ("隐藏状态的均值（以标准差计）", "mean of the hidden state (in standard deviations)")
        canvas.setup(ax, x, ("输出的相对误差", "relative error of the output"), (0, 3), (1e-17, 10), "log")
        canvas.curve(
            ax, "only", frame["m"], frame["only"], label=canvas.text("只换", "swapped"), color=canvas.VERMILLION
        )
        canvas.curve(ax, "folded", frame["m"], frame["folded"], label=canvas.text("并入", "folded"), color=canvas.BLUE)
        only, folded = frame.loc[4, "only"], canvas.number(frame["folded"].max())
        canvas.finding(
            ax,
            f"均值等于标准差时，只换归一化差 {100 * only:.0f}%；并入之后最多差 {folded}",
            f"With mean = std, swapping alone is {100 * only:.0f}% off; folded, at most {folded}",
        )

    return explore(experiment, draw, width=(8, 96, 8))


@figure
def amplified(rms_norm_backward):
    def experiment(log10_eps=-6):
        z, dy = torch.randn(2, 200, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        scale, eps, rows = torch.logspace(-6, 2, 25), 10.0**log10_eps, []
        for s in scale.tolist():
            dx, _ = rms_norm_backward(dy, s * z, torch.ones(64, dtype=torch.float64), eps)
            rows.append((s, (dx.norm() / dy.norm()).item(), (s**2 + eps) ** -0.5))
        return pd.DataFrame(rows, columns=["scale", "factor", "theory"])

    def draw(frame, ax):
        x, y = ("输入的均方根", "root mean square of the input"), ("dx 是 dy 的多少倍", "size of dx over size of dy")
        canvas.setup(ax, x, y, (1e-6, 1e2), (1e-3, 1e6), "log", "log")
        canvas.curve(ax, "factor", frame["scale"], frame["factor"], color=canvas.BLUE)
        canvas.theory(ax, "theory", frame["scale"], frame["theory"], label="1 / √(rms² + ε)", at=0.1)
        most = canvas.number(frame["factor"].max())
        canvas.finding(
            ax,
            f"输入再小，梯度最多放大 {most} 倍（1 / √ε）",
            f"However small the input, the gradient grows at most {most} times (1 / √ε)",
        )

    return explore(experiment, draw, log10_eps=(-10, -2))
