"""The figures of exercise 12. Each takes the function that the learner wrote."""

import pandas as pd
import torch

from ... import canvas
from ...explore import explore
from ...norms import layer_norm_backward
from ..figures import figure


@figure
def bounded(qk_norm_logits):
    def experiment(width=16):
        generator = torch.Generator().manual_seed(0)
        q, k = (torch.randn(1, 2, 32, width, generator=generator, dtype=torch.float64) for _ in range(2))
        one, rows = torch.ones(width, dtype=torch.float64), []
        for size in (2.0 ** torch.arange(-4, 9)).tolist():
            free = (size * q @ (size * k).mT / width**0.5).abs().max().item()
            rows.append((size, free, qk_norm_logits(size * q, size * k, one, one).abs().max().item()))
        return pd.DataFrame(rows, columns=["size", "free", "normed"]).assign(width=width)

    def draw(frame, ax):
        d = frame["width"][0]
        x, y = ("q 和 k 的大小", "size of q and k"), ("最大的打分", "largest logit")
        canvas.setup(ax, x, y, (2**-4, 2**8), (1e-3, 1e6), "log", "log")
        canvas.level(ax, "bound", d**0.5, "√d")
        free = {"color": canvas.VERMILLION, "marker": "s"}
        canvas.curve(ax, "free", frame["size"], frame["free"], canvas.text("没有归一化", "no norm"), **free)
        canvas.curve(ax, "normed", frame["size"], frame["normed"], canvas.text("QK 归一化", "QK-norm"))
        most = canvas.number(frame["normed"].max())
        canvas.finding(
            ax,
            f"d = {d}：归一化之后最大 {most}，上界 √d = {d**0.5:.1f}",
            f"d = {d}: at most {most} with the norm, the bound is √d = {d**0.5:.1f}",
        )

    return explore(experiment, draw, width=[4, 16, 64])


@figure
def passed_back(dyt_backward):
    def experiment(alpha=0.5):
        generator = torch.Generator().manual_seed(0)
        x, dy = (torch.randn(64, 64, generator=generator, dtype=torch.float64) for _ in range(2))
        a, one, zero = torch.tensor([alpha]).double(), torch.ones(64).double(), torch.zeros(64).double()
        rows = []
        for scale in torch.logspace(-2, 2, 25).tolist():
            dyt = dyt_backward(dy, scale * x, a, one, zero)[1]
            norm = layer_norm_backward(dy, scale * x, eps=1e-12)[0]
            rows.append((scale, *(part.square().mean().sqrt().item() for part in (dyt, norm))))
        return pd.DataFrame(rows, columns=["scale", "dyt", "layer_norm"]).assign(alpha=alpha)

    def draw(frame, ax):
        alpha = frame["alpha"][0]
        x, y = ("各行的尺度 s", "scale s of the rows"), ("传回的梯度", "gradient passed back")
        canvas.setup(ax, x, y, (1e-2, 1e2), (3e-3, 3e2), "log", "log")
        for norm, name in (("layer_norm", "LayerNorm"), ("dyt", "DyT")):
            canvas.curve(ax, norm, frame["scale"], frame[norm], name, norm)
        first, last = (canvas.number(frame["dyt"].iloc[i]) for i in (0, -1))
        canvas.finding(
            ax,
            f"α = {alpha:g}：s 从 0.01 到 100，DyT 传回 {first} 到 {last}",
            f"α = {alpha:g}: DyT passes back {first} at s = 0.01 and {last} at s = 100",
        )

    return explore(experiment, draw, alpha=[0.5, 0.2, 1.0, 2.0])


@figure
def course_of_variance(sandwich_stack):
    def experiment(skip=0.9, scale=1.0, depth=30):
        generator, d = torch.Generator().manual_seed(0), 128
        x = 2 * torch.randn(64, d, generator=generator)
        weights = [torch.randn(d, d, generator=generator) for _ in range(depth)]
        branches = [lambda h, w=w: torch.relu(h) @ w / d**0.5 for w in weights]
        law = sandwich_stack(x, branches, skip, scale)[1].tolist()
        measured = [x.var(correction=0).item()]
        for branch in branches:
            x = sandwich_stack(x, [branch], skip, scale)[0]
            measured.append(x.var(correction=0).item())
        columns = {"layer": range(depth + 1), "measured": measured, "law": law}
        return pd.DataFrame(columns).assign(skip=skip, scale=scale)

    def draw(frame, ax):
        depth, skip, scale = frame["layer"].max(), frame["skip"][0], frame["scale"][0]
        top = canvas.window(frame[["measured", "law"]], (0, 6), (0, 16), (0, 40), (0, 160))
        canvas.setup(ax, ("第几层", "layer"), ("方差", "variance"), (0, depth), top)
        canvas.curve(ax, "measured", frame["layer"], frame["measured"], canvas.text("量到的", "measured"))
        canvas.theory(ax, "law", frame["layer"].to_numpy(), frame["law"].to_numpy(), "s²q + a²")
        end = canvas.number(frame["measured"].iloc[-1]), canvas.number(frame["law"].iloc[-1])
        canvas.finding(
            ax,
            f"s = {skip:.1f}，a = {scale:.1f}：第 {depth} 层的方差 {end[0]}，公式给出 {end[1]}",
            f"s = {skip:.1f}, a = {scale:.1f}: variance {end[0]} at layer {depth}, the law says {end[1]}",
        )

    return explore(experiment, draw, skip=(0.5, 1.0, 0.1), scale=(0.2, 2.0, 0.2), depth=(5, 50, 5))
