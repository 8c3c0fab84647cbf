"""The figures of exercise 01. Each takes the functions that the learner wrote."""

import math

import pandas as pd
import torch

from ... import canvas
from ...explore import explore
from ...i18n import text
from ..figures import figure


def random_network(depth, width, gain, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, dy = torch.randn(2, 8, width, generator=g, dtype=torch.float64)
    weights = torch.randn(depth, width, width, generator=g, dtype=torch.float64)
    return x, [*weights * gain / width**0.5], dy / dy.norm()


@figure
def two_activations(log10_gradient_norms):
    def experiment(gain=1.0, depth=50):
        network = random_network(depth, 64, gain)
        columns = {name: log10_gradient_norms(*network, name) for name in ("relu", "tanh")}
        return pd.DataFrame({"layer": range(depth + 1)} | columns)

    def draw(frame, ax):
        depth, left = frame["layer"].max(), 10.0 ** frame.loc[0, ["relu", "tanh"]].astype(float)
        canvas.setup(ax, ("层", "layer"), ("梯度范数", "gradient norm"), (0, depth), (1e-12, 1e4), "log")
        canvas.curve(ax, "relu", frame["layer"], 10 ** frame["relu"], label="ReLU", color=canvas.VERMILLION)
        canvas.curve(ax, "tanh", frame["layer"], 10 ** frame["tanh"], label="tanh", color=canvas.BLUE)
        relu, tanh = map(canvas.number, left)
        canvas.finding(
            ax, f"{depth} 层之后，tanh 剩 {tanh}，ReLU 剩 {relu}", f"After {depth} layers: tanh {tanh}, ReLU {relu}"
        )

    return explore(experiment, draw, gain=(0.4, 2.0, 0.1), depth=(5, 60, 5))


@figure
def narrow_networks(log10_gradient_norms, factor_per_layer):
    def experiment(depth=50):
        rows = []
        for width in (8, 12, 16, 24, 32, 48):
            networks = [random_network(depth, width, 2**0.5, seed) for seed in range(6)]
            exponents = [torch.tensor(log10_gradient_norms(*network), dtype=torch.float64) for network in networks]
            factors = [factor_per_layer(e) for e in exponents if e.isfinite().sum() > 2]
            rows += [(width, depth, factor) for factor in factors]
        return pd.DataFrame(rows, columns=["width", "depth", "factor"])

    def draw(frame, ax):
        x, middle, low, high = canvas.spread(frame, "width", "factor")
        canvas.setup(ax, ("宽度", "width"), ("每层的因子", "factor per layer"), (7.5, 51), (0.7, 1.1), xscale="log")
        ax.set_xticks(x, [f"{width:.0f}" for width in x], minor=False)
        ax.minorticks_off()
        canvas.band(ax, "seeds", x, low, high, color=canvas.BLUE)
        canvas.curve(ax, "yours", x, middle, label=text("你的", "yours"), color=canvas.BLUE)
        canvas.level(ax, "theory", 1.0, text("无穷宽：1", "infinite width: 1", between=" "))
        factor, depth = middle[2], frame["depth"][0]
        left = canvas.number(factor**depth)
        canvas.finding(
            ax,
            f"宽 16：因子 {factor:.2f}，不是 1；{depth} 层剩 {left}",
            f"Width 16: a factor of {factor:.2f}, not 1; {left} is left of {depth} layers",
        )

    return explore(experiment, draw, depth=(10, 60, 10))


@figure
def tanh_against_gain(log10_gradient_norms, factor_per_layer, mean_field_factors):
    def experiment(depth=40):
        rows = []
        for gain in (0.25, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6):
            variances, factors = mean_field_factors(depth, gain)
            exponents = log10_gradient_norms(*random_network(depth, 64, gain), "tanh")
            measured = factor_per_layer(torch.tensor(exponents, dtype=torch.float64))
            saturated = math.erfc(math.atanh(0.9) / (2 * variances[-1]) ** 0.5)
            rows.append((gain, measured, factors[-1], saturated))
        return pd.DataFrame(rows, columns=["gain", "measured", "theory", "saturated"])

    def draw(frame, ax):
        canvas.setup(ax, ("增益 g", "gain g"), ("每层的因子", "factor per layer"), (0, 6), (0, 2.5))
        label = text("测量", "measured")
        canvas.curve(ax, "measured", frame["gain"], frame["measured"], label=label, color=canvas.BLUE)
        canvas.theory(ax, "theory", frame["gain"], frame["theory"], text("理论", "theory", between=" "), at=2)
        canvas.level(ax, "one", 1.0)
        at = frame.set_index("gain").loc[4]
        canvas.finding(
            ax,
            f"增益 4：{at['saturated']:.0%} 的单元饱和，因子却是 {at['theory']:.2f}",
            f"Gain 4: {at['saturated']:.0%} of the units saturated, yet a factor of {at['theory']:.2f}",
        )

    return explore(experiment, draw, depth=(10, 50, 10))


@figure
def jacobians(orthogonal):
    def experiment(depth=50, activation="linear", width=32):
        g, columns = torch.Generator().manual_seed(0), {}
        gain = 1.0 if activation == "linear" else 2**0.5
        draws = torch.randn(depth, width, width, generator=g, dtype=torch.float64)
        start = torch.randn(width, generator=g, dtype=torch.float64)
        for name in ("gaussian", "orthogonal"):
            x, J = start, torch.eye(width, dtype=torch.float64)
            for G in draws:
                W = orthogonal(G, gain) if name == "orthogonal" else gain * G / width**0.5
                slope = (x > 0).double() if activation == "relu" else torch.ones_like(x)
                x, J = W @ (slope * x), W @ (slope[:, None] * J)
            values = torch.linalg.svdvals(J)
            columns[name] = values.where(values > 1e-14 * values[0], 0)  # the rest is rounding
        return pd.DataFrame({"index": range(1, width + 1), "depth": depth} | columns, dtype=float)

    def draw(frame, ax):
        axes = ("第几个（从大到小）", "index, largest first"), ("奇异值", "singular value")
        canvas.setup(ax, *axes, (1, len(frame)), (1e-15, 1e2), "log")
        for name, label, colour in (
            ("orthogonal", text("正交", "orthogonal"), canvas.BLUE),
            ("gaussian", text("高斯", "Gaussian"), canvas.VERMILLION),
        ):
            seen = frame[frame[name] > 0]
            canvas.curve(ax, name, seen["index"], seen[name], label=label, color=colour)
        depth, middle = int(frame["depth"][0]), frame[["gaussian", "orthogonal"]].median()
        normal, turned = map(canvas.number, middle)
        canvas.finding(
            ax,
            f"{depth} 层，中位数：高斯 {normal}，正交 {turned}",
            f"{depth} layers, the median: Gaussian {normal}, orthogonal {turned}",
        )

    return explore(experiment, draw, depth=(1, 60), activation=["linear", "relu"])
