"""The figures of exercise 11. Each takes the function that the learner wrote."""

import pandas as pd
import torch
import torch.nn.functional as F

from ... import canvas
from ...explore import explore
from ...i18n import text
from ..figures import figure


@figure
def merged(merge):
    def experiment(count_b=8):
        rows = []
        for gap in range(0, 11):
            one, other = torch.zeros(1), torch.full((1,), float(gap))
            count, _, squares = merge(8, one, one + 8, count_b, other, one + count_b)
            share = count_b / (8 + count_b)
            rows.append((gap, float(squares) / count, 1 + share * (1 - share) * gap**2))
        return pd.DataFrame(rows, columns=["gap", "variance", "theory"]).assign(count=count_b)

    def draw(frame, ax):
        x, y = ("两个均值之差 δ", "difference of the means δ"), ("合起来的方差", "variance of all")
        canvas.setup(ax, x, y, (-0.3, 10.3), (0, 30))
        style = {"linestyle": "", "markevery": 1}
        canvas.curve(ax, "merged", frame["gap"], frame["variance"], text("合并", "merged"), color=canvas.BLUE, **style)
        canvas.theory(ax, "law", frame["gap"].to_numpy(), frame["theory"].to_numpy())
        last, count = frame["variance"].iloc[-1], frame["count"].iloc[0]
        canvas.finding(
            ax,
            f"8 个数和 {count} 个数，方差都是 1，均值差 10：合起来 {last:.0f}",
            f"8 numbers and {count}, each of variance 1, means 10 apart: {last:.0f}",
        )

    return explore(experiment, draw, count_b=[1, 8, 64])


def _slices(ranks, apart, width=8):
    generator = torch.Generator().manual_seed(0)
    shifts = torch.arange(ranks, dtype=torch.float64) - (ranks - 1) / 2
    x = torch.randn(32, ranks, width, generator=generator, dtype=torch.float64) + apart * shifts[:, None]
    return [part.contiguous() for part in x.unbind(1)]


def _error(y, right):
    return ((y - right).square().mean() / right.square().mean()).sqrt().item()


@figure
def against_one_device(split_layer_norm):
    def experiment(ranks=4):
        rows, ones = [], [torch.ones(8).double()] * ranks
        for step in range(0, 13):
            slices = _slices(ranks, step / 4)
            right = F.layer_norm(torch.cat(slices, -1), (8 * ranks,))
            yours = torch.cat(split_layer_norm(slices, ones, [0 * one for one in ones], 1e-5), -1)
            alone = torch.cat([F.layer_norm(part, (8,)) for part in slices], -1)
            rows.append((step / 4, _error(yours, right), _error(alone, right)))
        return pd.DataFrame(rows, columns=["apart", "yours", "alone"]).assign(ranks=ranks)

    def draw(frame, ax):
        x, y = ("相邻两段的均值之差", "means of neighbouring slices apart by"), ("输出的误差", "error of the output")
        canvas.setup(ax, x, y, (-0.1, 3.1), (-0.1, 1.8))
        style = {"markevery": 1}
        alone = text("各算各的", "each by itself")
        canvas.curve(ax, "alone", frame["apart"], frame["alone"], alone, color=canvas.VERMILLION, marker="s", **style)
        canvas.curve(ax, "yours", frame["apart"], frame["yours"], text("你的", "yours"), color=canvas.BLUE, **style)
        worst, last, ranks = canvas.number(frame["yours"].max()), frame["alone"].iloc[-1], frame["ranks"].iloc[0]
        canvas.finding(
            ax,
            f"{ranks} 个进程：你的最多差 {worst}，各算各的差到 {last:.1f}",
            f"{ranks} ranks: yours is off by {worst} at most, each by itself by up to {last:.1f}",
        )

    return explore(experiment, draw, ranks=[2, 4, 8])


@figure
def of_any_number(split_layer_norm_backward):
    def experiment(apart=1.0):
        rows = []
        for ranks in (1, 2, 4, 8, 16):
            slices, generator = _slices(ranks, apart), torch.Generator().manual_seed(1)
            dys = [torch.randn(part.shape, generator=generator, dtype=torch.float64) for part in slices]
            with torch.enable_grad():
                x = torch.cat(slices, -1).requires_grad_()
                (right,) = torch.autograd.grad(F.layer_norm(x, (8 * ranks,)), x, torch.cat(dys, -1))
            weights = [torch.ones(8).double()] * ranks
            yours = torch.cat(split_layer_norm_backward(dys, slices, weights, 1e-5), -1)
            rows.append((ranks, max(_error(yours, right), 1e-17)))
        return pd.DataFrame(rows, columns=["ranks", "error"])

    def draw(frame, ax):
        x, y = ("进程数", "ranks"), ("与自动求导之差", "difference from autograd")
        canvas.setup(ax, x, y, (0.9, 18), (1e-18, 10), "log", "log")
        ax.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
        ax.minorticks_off()
        canvas.curve(ax, "yours", frame["ranks"], frame["error"], text("你的", "yours"), color=canvas.BLUE, markevery=1)
        worst = canvas.number(frame["error"].max())
        canvas.finding(ax, f"1 到 16 个进程，梯度最多差 {worst}", f"1 to 16 ranks: gradients off by at most {worst}")

    return explore(experiment, draw, apart=(0.0, 3.0, 0.5))
