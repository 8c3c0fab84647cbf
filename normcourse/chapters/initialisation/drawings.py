"""The drawings of chapter 08: what arrives at each layer, what one step moves, what depth costs, and training."""

import numpy as np

from ...canvas import (
    GREY,
    band,
    curve,
    decades,
    finding,
    level,
    number,
    setup,
    text,
    theory,
)
from ...i18n import TERMS, term
from ..curves import GRADIENT, LAYER, LOSS, reach
from .starts import STARTS

VARIANCE = ("方差", "variance")
DEPTH = ("层数 L", "layers L")
_WITHIN = (-20, 20)


def layers(frame, axes):
    """Gradient and variance over the layers, a line per start, its closed form dashed.

    Columns: start, layer, gradient_norm, gradient_theory, variance, variance_theory.
    """
    said = {}
    columns = (("gradient_norm", "gradient_theory", GRADIENT), ("variance", "variance_theory", VARIANCE))
    for ax, (measured, closed, name) in zip(axes, columns):
        setup(ax, LAYER, name, _layers(frame["layer"].max()), decades(frame[[measured, closed]], 2, _WITHIN), "log")
        for place, (start, rows) in enumerate(frame.groupby("start", sort=False)):
            label = term(start, "\n") if ax is axes[1] else None
            curve(ax, start, rows["layer"], rows[measured], label, **STARTS[start].style)
            words = None if place else text("理论", "theory", " ")
            theory(ax, start, rows["layer"].to_numpy(), rows[closed].to_numpy(), words)
            end = rows[measured].iloc[0 if ax is axes[0] else -1]
            said.setdefault(start, []).append(number(end))
    depth, start = int(frame["layer"].max()), frame["start"].iloc[0]
    zh, en = TERMS[start]
    finding(
        axes[0],
        f"{zh}，{depth} 层：输入处的梯度 {said[start][0]}",
        f"{en}, {depth} layers: input gradient {said[start][0]}",
    )
    finding(axes[1], f"末端的方差 {said[start][1]}", f"Variance at the end {said[start][1]}")


def _layers(depth):
    return reach(depth) if depth <= 100 else (0, 300) if depth <= 300 else (0, 1000)


def one_step(frame, ax):
    """Relative change of the output by one step of Adam at the same rate, over the depth; dashed: powers of the depth.

    Columns: start, depth, change, power (of the depth, nan where no law is stated).
    """
    setup(ax, DEPTH, ("输出的改变", "change of the output"), (8, 1300), (1e-4, 1e2), "log", "log")
    powers = []
    for start, rows in frame.groupby("start", sort=False):
        x, y = rows["depth"].to_numpy(float), rows["change"].to_numpy()
        curve(ax, start, x, y, term(start, "\n"), **STARTS[start].style | {"markevery": 1})
        power = rows["power"].iloc[0]
        if np.isfinite(power) and len(x) > 1:
            words = {1.0: "∝ L", 0.5: "∝ √L", 0.0: text("不变", "constant", " ")}[power]
            theory(ax, start, x, y[0] * (x / x[0]) ** power, words, at=x[len(x) // 2])
        if len(x) > 1 and y[0] > 0:
            powers.append((start, y[-1] / y[0]))
    level(ax, "all", 1.0, text("改变 100%", "changed by 100%", " "))
    last = int(frame["depth"].max())
    zh, en = ("，".join(number(ratio) for _, ratio in powers), " and ".join(number(ratio) for _, ratio in powers))
    finding(
        ax,
        f"10 层到 {last} 层，同样一步的改变大了几倍：{zh}",
        f"10 to {last} layers: one step moves the output {en} times as far",
    )


def cost(frame, axes):
    """Memory kept for the backward pass, and time of both passes, over the depth; dashed: in proportion.

    Columns: start, depth, megabytes, milliseconds.
    """
    depth = frame["depth"].to_numpy(float)
    names = (("megabytes", ("内存（MB）", "memory (MB)")), ("milliseconds", ("时间（ms）", "time (ms)")))
    for ax, (column, name) in zip(axes, names):
        y = frame[column].to_numpy()
        setup(ax, DEPTH, name, (0, 1050), (0, 1.15 * y.max()))
        curve(ax, column, depth, y, **STARTS[frame["start"].iloc[0]].style | {"markevery": 1})
        theory(
            ax, column, np.array([0, 1000.0]), np.array([0, 1000.0]) * y[-1] / depth[-1], text("正比于 L", "∝ L", " ")
        )
        times = number(y[-1] / y[0])
        zh, en = ("内存", "memory") if column == "megabytes" else ("时间", "time")
        finding(
            ax,
            f"层数 {depth[-1] / depth[0]:.0f} 倍，{zh} {times} 倍",
            f"Layers × {depth[-1] / depth[0]:.0f}, {en} × {times}",
        )


def training(frame, axes):
    """Recorded: on the left the loss after 20 steps over the rate, on the right 40 steps at the best rate; the band is
    that of the seeds. Two starts in colour, the others thin and grey.

    Columns: start, learning_rate, seed, loss, to_5 …; depth; first, second (the two shown), shown (bool).
    """
    above, below = axes
    depth = int(frame["depth"].iloc[0])
    setup(above, ("学习率", "learning rate"), LOSS, (8e-5, 1.3e-1), (-0.1, 5.0), "linear", "log")
    setup(below, ("步数", "step"), LOSS, (0, 40), (-0.1, 5.0))
    steps = [column for column in frame if column.startswith("to_")]
    best = {}
    for start, rows in frame.groupby("start", sort=False):
        shown = bool(rows["shown"].iloc[0])
        style = STARTS[start].style if shown else {"color": GREY, "marker": "", "linewidth": 0.8, "alpha": 0.5}
        losses = rows.groupby("learning_rate")["loss"]
        rate, middle, low, high = losses.mean().index, losses.mean(), losses.min(), losses.max()
        chosen = rows[rows["learning_rate"] == middle.idxmin()]
        best[start] = middle.min()
        ends = [int(column[3:]) for column in steps]
        curve(above, start, rate, middle, **style | {"markevery": 1})
        curve(below, start, ends, chosen[steps].mean(), term(start, "\n") if shown else None, **style)
        if shown:
            colour = STARTS[start].style["color"]
            band(above, start, rate, low, high, color=colour)
            band(below, start, ends, chosen[steps].min(), chosen[steps].max(), color=colour)
    said = [f"{best[start]:.2f}" for start in (frame["first"].iloc[0], frame["second"].iloc[0])]
    finding(
        above, f"{depth} 层，20 步后：{said[0]} 对 {said[1]}", f"{depth} layers, 20 steps: {said[0]} against {said[1]}"
    )
    finding(below, "各用最好的学习率（预先跑好）", "Each at its best rate (precomputed)")
