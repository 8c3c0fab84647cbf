"""The drawings of chapters 00 to 02."""

import numpy as np

from ..canvas import (
    BLUE,
    GREEN,
    GREY,
    SKY,
    VERMILLION,
    band,
    curve,
    finding,
    level,
    note,
    number,
    setup,
    spread,
    text,
    theory,
)
from ..i18n import term
from .common import GRADIENT, LAYER, LOSS, against_the_whole, closed_form, per_placement, recorded


def one_layer(frame, ax):
    """Histogram of one layer's outputs over the density of N(0, gain²)."""
    gain, y = frame["gain"].iloc[0], frame["y"].to_numpy()
    setup(ax, ("y 的取值", "value of y"), ("密度", "density"), (-6, 6), (0, 2.1))
    heights, edges = np.histogram(y, bins=np.linspace(-6, 6, 97), density=True)
    ax.stairs(heights, edges, fill=True, color=SKY, alpha=0.8)
    x = np.linspace(-6, 6, 241)
    density = np.exp(-(x**2) / (2 * gain**2)) / (gain * np.sqrt(2 * np.pi))
    theory(ax, "normal", x, density, f"$N(0, g^2)$, g = {gain:.2f}", at=np.sqrt(2) * gain)
    zh, en = (
        f"y 的标准差：测得 {y.std():.2f}，理论值 g = {gain:.2f}",
        f"standard deviation of y: {y.std():.2f} measured, ",
    )
    if outside := (np.abs(y) > 6).mean():
        zh, en = f"{zh}（{outside:.1%} 在图外）", f"({outside:.1%} outside) {en}"
    finding(ax, zh, f"{en}g = {gain:.2f} in theory")


def gradient_flow(frame, ax):
    """What is left of the gradient on its way back from the output, per placement; the band spans the seeds."""
    depth, several = frame["layer"].max(), frame["placement"].nunique() > 1
    back = ("距输出的层数", "layers back from the output")
    setup(ax, back, GRADIENT, (0, 200 if several else 100), (1e-20, 1e20) if several else (1e-24, 1e8), "log")
    frame = frame.assign(layer=depth - frame["layer"]).sort_values("layer", kind="stable")
    left = {p: y[-1] / y[0] for p, (_, y) in per_placement(frame, ax, "gradient_norm").items()}
    if several:
        each = "  ".join(f"{term(placement, '/')} {number(value)}" for placement, value in left.items())
        ax.set_title(text(f"往回走 {depth} 层，梯度还剩：", f"{depth} layers back, what is left:", " ") + f"\n{each}")
    else:
        value = number(next(iter(left.values())))
        finding(
            ax,
            f"往回走 {depth} 层，梯度变成原来的 {value} 倍",
            f"{depth} layers back, the gradient is {value} times what it was",
        )


def variance_growth(frame, ax):
    """Variance of the stream at each layer, per placement, over its closed form."""
    depth = frame["layer"].max()
    setup(ax, LAYER, ("方差", "variance"), (0, 100), (1e-4, 1e32), "log")
    _, variance = per_placement(frame, ax, "variance")["residual"]
    value = number(variance[-1] / variance[0])
    finding(
        ax,
        f"{depth} 个残差块之后，方差是输入的 {value} 倍",
        f"After {depth} residual blocks the variance is {value} times the input's",
    )


def weight_gradients(frame, axes):
    """Two panels: gradients of the hidden states, and of the weights that learn from them."""
    panels = [
        ("gradient_norm", ("隐藏状态的梯度范数", "gradient norm, hidden states")),
        ("weight_gradient_norm", ("权重的梯度范数", "gradient norm, weights")),
    ]
    for ax, (column, name) in zip(axes, panels):
        setup(ax, LAYER, ("", ""), (0, 60), (1e-24, 1e8), "log")
        x, middle, low, high = spread(frame.dropna(subset=column), "layer", column)
        band(ax, "plain", x, low, high, "plain")
        curve(ax, "plain", x, middle, placement="plain")
        ratio = number(middle[0] / middle[-1]) if middle[-1] else "nan"
        ax.set_title(text(*name, " ") + "\n" + text("首层/末层", "first/last layer", " ") + f" = {ratio}")


def jacobian_products(frame, ax):
    """Largest, median and smallest singular value of ∂x_l/∂x_0, layer by layer; the band spans the seeds."""
    depth, width = frame["layer"].max(), frame["index"].max() + 1
    setup(ax, LAYER, ("奇异值", "singular value"), (0, 60), (1e-16, 1e6), "log")
    names = {0: ("最大", "largest"), width // 2: ("中位数", "median"), width - 1: ("最小", "smallest")}
    ends = {}
    for (index, name), colour, marker in zip(names.items(), (BLUE, GREEN, VERMILLION), "o^s"):
        rows = frame[(frame["index"] == index) & (frame["singular_value"] > frame["resolution"])]
        ends[index] = 0.0
        if len(rows):
            x, middle, low, high = spread(rows, "layer", "singular_value")
            band(ax, index, x, low, high, color=colour)
            curve(ax, index, x, middle, text(*name), color=colour, marker=marker, markevery=1)
            ends[index] = middle[-1]
        closed_form(ax, index, frame[frame["index"] == index], "layer", named=index == width // 2)
    largest, median = number(ends[0]), number(ends[width // 2])
    finding(
        ax,
        f"{depth} 层之后，最大奇异值是 {largest}，中位数只有 {median}",
        f"After {depth} layers the largest singular value is {largest}, the median {median}",
    )


def degradation(frame, ax):
    """Training loss of one wiring after a fixed number of steps, against depth; a recorded run."""
    setup(ax, ("层数", "depth (layers)"), LOSS, (0, 50), (2.2, 4.6))
    level(ax, "uniform", frame["uniform"].iloc[0], text("均匀乱猜", "uniform guess", " "))
    level(ax, "unigram", frame["unigram"].iloc[0], text("只用字符频率", "character frequencies only", " "))
    placement, groups = frame["placement"].iloc[0], frame.groupby("depth")["loss"]
    middle = groups.mean()
    band(ax, "loss", middle.index, groups.min(), groups.max(), placement)
    curve(ax, "loss", middle.index, middle, term(placement, "\n"), placement, markevery=1)
    note(ax, "recorded", 49.6, 2.24, f"{recorded()} {frame['date'].iloc[0]}", GREY, ha="right")
    best, deep, loss = middle.idxmin(), middle.index[-1], middle.iloc[-1]
    finding(
        ax,
        f"{best} 层时训练损失最低（{middle[best]:.2f}），{deep} 层时是 {loss:.2f}",
        f"Training loss is lowest with {best} layers ({middle[best]:.2f}); with {deep} it is {loss:.2f}",
    )


def learning_rate_map(frame, ax):
    """Final training loss for every depth and learning rate of one wiring; what diverged is white. A recorded run."""
    import seaborn

    losses = frame.pivot_table(index="learning_rate", columns="depth", values="loss", aggfunc="mean", dropna=False)
    losses = losses.replace(np.inf, np.nan).sort_index(ascending=False)
    colours = {"vmin": 2.2, "vmax": 3.6, "cmap": "cividis_r"}
    seaborn.heatmap(losses, ax=ax, annot=True, fmt=".2f", cbar=False, annot_kws={"size": 9}, **colours)
    ax.tick_params(axis="y", rotation=0)
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
    ylabel, ylim = ("奇异值", "singular value"), (1e-3, 1e3)
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
        (-0.5, 60.5),
        (0, 0.5),
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


def training_curves(frame, ax):
    """Training loss against steps, per placement, smoothed over 20 steps; the band spans the seeds."""
    steps = frame["step"].max()
    setup(ax, ("训练步数", "training step"), LOSS, (0, steps), (2.0, 5.0))
    if "unigram" in frame:
        words = text("只用字符频率", "character frequencies only", " ")
        level(ax, "unigram", frame["unigram"].iloc[0], words, below=True)
    ends = {}
    for placement, rows in frame.groupby("placement", sort=False):
        smooth = rows.pivot(index="step", columns="seed", values="loss").rolling(20, min_periods=1).mean()
        band(ax, placement, smooth.index, smooth.min(axis=1), smooth.max(axis=1), placement)
        curve(ax, placement, smooth.index, smooth.mean(axis=1), term(placement, "\n"), placement)
        ends[placement] = smooth.iloc[-1].mean()
    each = "  ".join(f"{term(placement, '/')} {loss:.2f}" for placement, loss in ends.items())
    ax.set_title(text(f"{steps} 步之后的训练损失：", f"Training loss after {steps} steps:", " ") + f"\n{each}")


def layer_drops(frame, ax):
    """Loss of trained networks with one layer left out, per placement; the layer in column `here` is marked."""
    here = int(frame["here"].iloc[0])
    setup(ax, ("去掉的是第几层", "layer left out"), LOSS, (0.5, frame["layer"].max() + 0.5), (2, 6))
    losses = against_the_whole(frame, ax, here)
    heading = text(f"损失，完整网络 → 去掉第 {here} 层：", f"Loss, whole network → without layer {here}:", " ")
    ax.set_title(heading + "\n" + losses)
