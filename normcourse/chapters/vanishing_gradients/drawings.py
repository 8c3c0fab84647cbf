"""The drawings of chapter 01: the weights' gradients, products of Jacobians, degradation."""

from ...canvas import (
    BLUE,
    GREEN,
    VERMILLION,
    band,
    curve,
    decades,
    finding,
    level,
    note,
    number,
    setup,
    spread,
    text,
    tone,
)
from ...i18n import term
from ..curves import LAYER, LOSS, closed_form, reach, recorded


def weight_gradients(frame, axes):
    """Two panels: gradients of the hidden states, and of the weights that learn from them."""
    panels = [("gradient_norm", "隐藏状态", "hidden states"), ("weight_gradient_norm", "权重", "weights")]
    limits = decades(frame[[column for column, *_ in panels]], 8, (-40, 24))
    for ax, (column, zh, en) in zip(axes, panels):
        y = ("梯度范数", "gradient norm") if ax is axes[0] else ("", "")
        setup(ax, LAYER, y, reach(frame["layer"].max()), limits, "log")
        x, middle, low, high = spread(frame.dropna(subset=column), "layer", column)
        band(ax, "plain", x, low, high, "plain")
        curve(ax, "plain", x, middle, placement="plain")
        if middle[0] and middle[-1]:
            ratio = number(middle[0] / middle[-1])
            finding(ax, f"{zh}：首层梯度是末层的 {ratio} 倍", f"{en}: first layer {ratio} × the last")
        else:
            finding(ax, f"{zh}：float32 里下溢成 0（▼）", f"{en}: 0 in float32, underflow (▼)")


def jacobian_products(frame, ax):
    """Largest, median and smallest singular value of ∂x_l/∂x_0, layer by layer; the band spans the seeds."""
    depth, width = frame["layer"].max(), frame["index"].max() + 1
    seen = frame.loc[frame["singular_value"] > frame["resolution"], "singular_value"]
    setup(ax, LAYER, ("奇异值", "singular value"), reach(depth), decades(seen, 4, (-16, 8)), "log")
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
    note(ax, "recorded", 49.6, 2.24, f"{recorded()} {frame['date'].iloc[0]}", tone("soft"), ha="right")
    best, deep, loss = middle.idxmin(), middle.index[-1], middle.iloc[-1]
    finding(
        ax,
        f"{best} 层时训练损失最低（{middle[best]:.2f}），{deep} 层时是 {loss:.2f}",
        f"Training loss is lowest with {best} layers ({middle[best]:.2f}); with {deep} it is {loss:.2f}",
    )
