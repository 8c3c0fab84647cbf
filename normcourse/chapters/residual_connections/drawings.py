"""The drawings of chapter 02: variance, spectra, paths, layers left out."""

import numpy as np

from ...canvas import (
    BLUE,
    GREEN,
    GREY,
    VERMILLION,
    band,
    curve,
    decades,
    finding,
    heat_map,
    level,
    number,
    setup,
    signed,
    spread,
    text,
    theory,
    window,
)
from ..curves import LAYER, LOSS, against_the_whole, closed_form, each, per_placement, reach, recorded


def variance_growth(frame, ax):
    """Variance of the stream at each layer, per placement, over its closed form."""
    depth = frame["layer"].max()
    limits = decades(frame[["variance", "theory"]], 8, (-72, 80))
    setup(ax, LAYER, ("方差", "variance"), reach(depth), limits, "log")
    _, variance = per_placement(frame, ax, "variance")["residual"]
    value = number(variance[-1] / variance[0])
    finding(
        ax,
        f"{depth} 个残差块之后，方差是输入的 {value} 倍",
        f"After {depth} residual blocks the variance is {value} times the input's",
    )


def learning_rate_map(frame, ax):
    """Final training loss for every depth and learning rate of one wiring; what diverged says so. A recorded run."""
    losses = frame.pivot_table(index="learning_rate", columns="depth", values="loss", aggfunc="mean", dropna=False)
    losses = losses.replace(np.inf, np.nan).sort_index(ascending=False)
    heat_map(ax, losses, 2.2, 3.6, beyond=(9.99, text("发散", "div.", " ")), size=9)
    ax.set_xlabel(text("层数", "depth (layers)", "  ") + f"    {recorded()} {frame['date'].iloc[0]}")
    ax.set_ylabel(text("学习率", "learning rate", "  "))
    rate, depth = losses.stack().idxmin()
    low, deepest, deep = losses.loc[rate, depth], losses.columns[-1], losses.iloc[:, -1].min()
    finding(
        ax,
        f"损失最低 {low:.2f}（{depth} 层，学习率 {rate:g}）；{deepest} 层最好也有 {deep:.2f}",
        f"lowest loss {low:.2f} ({depth} layers, rate {rate:g}); with {deepest} layers {deep:.2f} at best",
    )


def skip_spectrum(frame, axes):
    """Singular values of one stack's Jacobian, sorted; and its smallest and largest against the size of the branch."""
    here, (left, right) = frame["here"].iloc[0], axes
    rows = frame[np.isclose(frame["branch_scale"], here)]
    values = rows.groupby("index")["singular_value"].mean().to_numpy()
    sizes = frame.groupby(["branch_scale", "index"])["singular_value"].mean()
    ylabel, ylim = ("奇异值", "singular value"), window(sizes, (1e-2, 1e1), (1e-2, 1e2), (1e-3, 1e3))
    setup(left, ("方向（由大到小）", "direction (sorted)"), ylabel, (0, len(values)), ylim, "log")
    level(left, "one", 1, text("梯度不变", "unchanged", " "), below=True)
    curve(left, "values", np.arange(len(values)), values, placement="residual", marker="")
    share = (values < 1).mean()
    finding(left, f"{share:.0%} 的方向在缩小", f"{share:.0%} of directions shrink")
    setup(right, ("分支大小 a", "branch size a"), ("", ""), (0, 2), ylim, "log")
    ends = [(0, ("最大", "largest"), BLUE, "o"), (len(values) - 1, ("最小", "smallest"), VERMILLION, "s")]
    for index, name, colour, marker in ends:
        one = frame[frame["index"] == index]
        x, middle, low, high = spread(one, "branch_scale", "singular_value")
        band(right, index, x, low, high, color=colour)
        curve(right, index, x, middle, text(*name), color=colour, marker=marker, markevery=1)
        closed_form(right, index, one, "branch_scale", named=index == 0)
    right.axvline(here, color=GREY, linewidth=1.2)
    smallest = number(values[-1])
    finding(right, f"a = {here:g} 时最小奇异值是 {smallest}", f"smallest at a = {here:g}: {smallest}")


def path_lengths(frame, ax):
    """Share of the squared gradient by the number of branches it came through, over the binomial distribution."""
    depth = frame["path_length"].max()
    square = frame.assign(share=frame["gradient_norm"] ** 2)
    square["share"] /= square.groupby("seed")["share"].transform("sum")
    groups = square.groupby("path_length")["share"]
    middle = groups.mean()
    setup(
        ax,
        ("经过的残差分支数", "branches passed through"),
        ("占梯度平方的份额", "share of squared gradient"),
        window(middle.index[middle > 1e-4].max(), (-0.5, 15.5), (-0.5, 30.5), (-0.5, 60.5)),
        window(1.1 * max(groups.max().max(), frame["theory"].max()), (0, 0.2), (0, 0.3), (0, 0.5), (0, 1)),
    )
    ax.fill_between(middle.index, middle, step="mid", color=GREEN, alpha=0.3, linewidth=0)
    band(ax, "seeds", middle.index, groups.min(), groups.max(), "residual")
    curve(ax, "share", middle.index, middle, placement="residual", markevery=1)
    expected = frame.drop_duplicates("path_length").set_index("path_length")["theory"]
    shoulder = expected[expected > expected.max() / 2].index[-1]
    theory(ax, "binomial", expected.index, expected.to_numpy(), text("二项分布", "binomial", " "), at=shoulder)
    most = int((middle.cumsum() >= 0.95).idxmax())
    finding(
        ax,
        f"{depth} 层的网络，梯度平方的 95% 只经过不多于 {most} 个分支",
        f"{depth} layers: 95% of the squared gradient came through {most} branches or fewer",
    )


def layer_drops(frame, ax):
    """Loss of trained networks with one layer left out, per placement; the layer in column `here` is marked."""
    here, last = int(frame["here"].iloc[0]), frame["layer"].max()
    limits = window(frame["loss"], (2, 4), (2, 6), (2, 10))
    setup(ax, ("去掉的是第几层", "layer left out"), LOSS, (0.5, last + 0.5), limits)
    zh, en = each(against_the_whole(frame, ax, here), lambda value: signed(value, 2, "+"))
    finding(ax, f"去掉第 {here} 层，损失：{zh}", f"Without layer {here} the loss changes by: {en}")
