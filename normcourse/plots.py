"""The drawings of the chapters: a tidy DataFrame of `measure` becomes a figure whose title is the finding.

Each takes `(frame, ax)`. Columns are those of the probes in `measure`; a column `theory` holds the closed form, if any.
"""

import numpy as np

from .canvas import STYLES, band, curve, finding, level, note, number, setup, spread, text, theory
from .i18n import term

LAYER = ("第几层", "layer")
GRADIENT = ("梯度范数", "gradient norm")


def gradient_flow(frame, ax):
    """What is left of the gradient at each layer, per placement; the band spans the seeds."""
    depth = frame["layer"].max()
    setup(ax, LAYER, GRADIENT, (0, 100 if depth <= 100 else 200), (1e-16, 1e8), "log")
    level(ax, "one", 1)
    left = _per_placement(frame, ax, "gradient_norm", text("理论", "theory", " "))
    parts = [f"{term(placement)} {number(value)}" for placement, value in left.items()]
    if len(left) == 1:
        value = number(next(iter(left.values())))
        finding(
            ax,
            f"往回走 {depth} 层，梯度变成原来的 {value} 倍",
            f"{depth} layers back, the gradient is {value} of what it was",
        )
    else:
        finding(ax, f"往回走 {depth} 层，梯度还剩：", f"{depth} layers back, what is left of the gradient:")
        ax.set_title(ax.get_title(loc="left") + " " + ", ".join(parts))


def weight_gradients(frame, axes):
    """Two panels: gradients of hidden states, and of the weights that learn from them."""
    depth = frame["layer"].max()
    columns = {
        "gradient_norm": ("隐藏状态的梯度", "gradient of hidden states"),
        "weight_gradient_norm": ("权重的梯度", "gradient of weights"),
    }
    for ax, (column, name) in zip(axes, columns.items()):
        setup(ax, LAYER, name, (0, 60), (1e-16, 1e4), "log")
        rows = frame.dropna(subset=column)
        x, middle, low, high = spread(rows, "layer", column)
        band(ax, column, x, low, high, "plain")
        curve(ax, column, x, middle, placement="plain")
        ratio = number(middle[0] / middle[-1])
        finding(ax, f"第一层 / 最后一层 = {ratio}", f"first / last layer = {ratio}")


def _per_placement(frame, ax, column, theory_label):
    """A curve with its band and closed form for every placement in the frame; what the first layer has, per placement."""
    left = {}
    groups = frame.groupby("placement", sort=False) if "placement" in frame else [("plain", frame)]
    for placement, rows in groups:
        x, middle, low, high = spread(rows, "layer", column)
        band(ax, placement, x, low, high, placement)
        curve(ax, placement, x, middle, term(placement, "\n"), placement)
        if "theory" in rows:
            line = rows.drop_duplicates("layer")
            theory(
                ax, placement, line["layer"].to_numpy(), line["theory"].to_numpy(), theory_label if not left else None
            )
        left[placement] = middle[0]
    return left
