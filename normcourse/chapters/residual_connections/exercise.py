"""The figures of exercise 02. Each takes the functions that the learner wrote."""

import pandas as pd
import torch

from ... import canvas
from ...explore import explore
from ...i18n import text
from ..figures import figure


@figure
def three_wirings(input_gradient):
    def experiment(gain=0.58, width=32):
        g, f64, rows = torch.Generator().manual_seed(0), torch.float64, []
        x, direction = torch.randn(2, 4, width, generator=g, dtype=f64)
        w_in, w_out = gain / width**0.5 * torch.randn(2, 50, width, width, generator=g, dtype=f64)
        for depth in (2, 10, 20, 30, 40, 50):
            blocks = x, [*w_in[:depth]], [*w_out[:depth]], direction / direction.norm()
            minus = x, [*w_in[:depth]], [*-w_out[:depth]], direction / direction.norm()
            runs = [input_gradient(*blocks, False), input_gradient(*blocks, True), input_gradient(*minus, True)]
            rows.append([depth, *(gradient.norm().item() for gradient in runs)])
        return pd.DataFrame(rows, columns=["depth", "plain", "plus", "minus"])

    def draw(frame, ax):
        labels = ("层数", "depth"), ("输入处的梯度范数", "gradient norm at the input")
        canvas.setup(ax, *labels, (0, 50), (1e-36, 1e10), "log")
        canvas.curve(ax, "plain", frame["depth"], frame["plain"], "f(h)", "plain")
        canvas.curve(ax, "plus", frame["depth"], frame["plus"], "h + f(h)", "residual")
        canvas.curve(ax, "minus", frame["depth"], frame["minus"], "h − f(h)", color=canvas.BLUE, linestyle="--")
        plain, plus, minus = map(canvas.number, frame.iloc[-1][["plain", "plus", "minus"]])
        canvas.finding(
            ax,
            f"50 层：普通 {plain}，h + f(h) {plus}，h − f(h) {minus}",
            f"50 layers: plain {plain}, h + f(h) {plus}, h − f(h) {minus}",
        )

    return explore(experiment, draw, gain=(0.3, 1.3, 0.04))


@figure
def three_jacobians(smallest_singular_values):
    def experiment(width=32):
        G = torch.randn(width, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / width**0.5
        kinds = {"gaussian": G, "symmetric": (G + G.T) / 2**0.5, "antisymmetric": (G - G.T) / 2**0.5}
        a, columns = torch.arange(0, 2.05, 0.1, dtype=torch.float64), {}
        for name, J in kinds.items():
            columns[name], slope = smallest_singular_values(J, a)
            columns[f"{name} tangent"] = 1 + a * slope
        return pd.DataFrame({"a": a} | columns, dtype=float)

    def draw(frame, ax):
        labels = ("分支 a", "branch a"), ("最小的奇异值", "smallest singular value")
        canvas.setup(ax, *labels, (0, 2), (0, 1.3))
        for name, colour, label in (
            ("antisymmetric", canvas.GREEN, text("反对称", "antisymmetric")),
            ("gaussian", canvas.BLUE, text("高斯", "Gaussian")),
            ("symmetric", canvas.VERMILLION, text("对称", "symmetric")),
        ):
            canvas.curve(ax, name, frame["a"], frame[name], label=label, color=colour)
            ax.plot(frame["a"], frame[f"{name} tangent"], ":", color=colour, linewidth=1.2)
        gaussian, symmetric, anti = (f"{frame.loc[5, name]:.2f}" for name in ("gaussian", "symmetric", "antisymmetric"))
        canvas.finding(
            ax,
            f"a = 0.5：高斯 {gaussian}，对称 {symmetric}，反对称 {anti}",
            f"a = 0.5: Gaussian {gaussian}, symmetric {symmetric}, antisymmetric {anti}",
        )

    return explore(experiment, draw, width=(4, 48, 4))


@figure
def paths(path_shares):
    def experiment(depth=1000, branch="f/√L", gain=1.4):
        chi = gain**2 / 2 / (depth if branch == "f/√L" else 1)
        shares = path_shares(depth, chi)
        median = int((shares.cumsum(0) < 0.5).sum())
        return pd.DataFrame({"k": range(depth + 1), "share": shares, "median": median})

    def draw(frame, ax):
        depth, median = len(frame) - 1, frame["median"][0]
        seen = frame[frame["share"] > 1e-4]
        labels = ("经过的分支 k", "branches on the way, k"), ("占梯度平方的份额", "share of gradient²")
        across = seen["k"].min() - 0.5, seen["k"].max() + 0.5
        canvas.setup(ax, *labels, across, (0, 1.2 * seen["share"].max()))
        ax.bar(seen["k"], seen["share"], width=0.8, color=canvas.BLUE)
        direct = frame["share"][0]
        canvas.finding(
            ax,
            f"{depth} 层：梯度平方的至少一半经过不超过 {median} 个分支，{direct:.0%} 一个也不经过",
            f"{depth} layers: at least half of gradient² crosses ≤ {median} branches, {direct:.0%} none",
        )

    return explore(experiment, draw, depth=[10, 100, 1000, 3000], branch=["f/√L", "f"], gain=(0.2, 2.0, 0.1))
