"""The signature picture of chapter 06: two towers beside each other, and the gradient that comes down through them."""

import functools

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm

from ...canvas import GREY, STYLES, note, text
from ...i18n import TERMS
from ...measure import gradient_norms, variances
from ...models import deep_mlp
from ...theory import mean_field
from ..scenes import DASHES, boxes, ink, paper, stage

DEPTH, WIDTH = 12, 128
SCALE = LogNorm(0.1, 2.0, clip=True)
TRUNK = 6.0  # half the width at which a trunk leaves the picture


def towers(back=DEPTH, gain=1.4, activation="relu", seed=0):
    """Variance of the stream and gradient that arrives at every layer, for both wirings at initialisation: 12 layers of
    128; 1 is sent back from behind the final norm, where there is one. `theory`: the variance for infinite width.
    """
    frames = [_tower(placement, gain, activation, seed) for placement in ("post_norm", "pre_norm")]
    return pd.concat(frames).assign(back=back)


@functools.lru_cache(maxsize=64)
def _tower(placement, gain, activation, seed):
    model = deep_mlp(DEPTH, WIDTH, placement, activation=activation, gain=gain, seed=seed)
    frame = gradient_norms(model, seed=seed, placement=placement)
    expected = mean_field(placement, DEPTH, gain, activation)[0]
    return frame.assign(variance=variances(model, seed=seed)["variance"], theory=expected)


def draw(frame, axes):
    """A tower for each wiring, the input at the bottom: the trunk is as wide as the variance, and has the colour of
    the gradient's size where that has passed; the pulse is where it is now. Branches on the right, norms as bars."""
    back = int(frame["back"].iloc[0])
    for ax, (placement, rows) in zip(axes, frame.groupby("placement", sort=False)):
        rows = rows.set_index("layer")
        variance, gradient = rows["variance"].to_numpy(), rows["gradient_norm"].to_numpy()
        unit = 2 * TRUNK / max(frame["variance"].max(), frame["theory"].max(), 4.0)
        up = ("层，输入在下", "layers, the input at the bottom")
        stage(ax, ("宽度：方差", "width: variance"), up, (-8.8, 8.8), (-1.3, DEPTH + 1.4))
        _trunk(ax, placement, variance * unit / 2, gradient, DEPTH - back)
        for side in (-0.5, 0.5):
            line = side * unit * rows["theory"]
            ax.plot(line, rows.index, color=ink(), linestyle=DASHES, linewidth=1.2, zorder=5)
        here = DEPTH - back
        ax.plot(0, here, "o", markersize=8 + 14 * min(gradient[here], 1.6), color=_colour(gradient[here]), zorder=7,
                markeredgecolor=ink())  # fmt: skip
        note(ax, "gradient", -8.7, -0.9, f"{text('梯度', 'gradient', ' ')} {gradient[here]:.2f}", va="center")
        note(ax, "top", 0, DEPTH + 0.45, f"{text('方差', 'variance', ' ')} {variance[-1]:.1f}", ha="center")
        boxes(ax, 3.4, -1.0, 1.2, 0.18, facecolors=GREY)
        note(ax, "norm", 4.8, -0.9, text("归一化", "norm", " "), va="center")
        name, ratio = TERMS[placement], gradient[here] / gradient[-1]
        words = text(
            f"{name[0]}：方差 {variance[-1]:.1f}，梯度 × {ratio:.1f}",
            f"{name[-1]}: variance {variance[-1]:.1f}, gradient × {ratio:.1f}",
        )
        ax.set_title(words, fontsize=11.5)


def _trunk(ax, placement, half, gradient, here):
    colour = STYLES[placement].colour
    for layer in range(DEPTH):
        y = np.linspace(layer, layer + 1, 9)
        edge = np.interp(y, [layer, layer + 1], half[layer : layer + 2])
        passed = layer >= here
        shade = {"color": _colour(gradient[layer]), "alpha": 1.0} if passed else {"color": colour, "alpha": 0.25}
        ax.fill_betweenx(y, -edge, edge, linewidth=0, **shade)
        _branch(ax, placement, layer, np.interp(0.5, [0, 1], half[layer : layer + 2]), colour)


def _branch(ax, placement, layer, edge, colour):
    turn = np.linspace(-np.pi / 2, np.pi / 2, 20)
    ax.plot(edge + 1.1 * np.cos(turn), layer + 0.5 + 0.32 * np.sin(turn), color=colour, linewidth=1.2)
    ax.plot(edge + 1.1, layer + 0.5, "s", color=paper(), markeredgecolor=colour, markersize=5, zorder=6)
    if placement == "pre_norm":
        ax.plot([edge + 0.2, edge + 1.0], [layer + 0.2] * 2, color=GREY, linewidth=3)
    else:
        boxes(ax, -edge - 0.5, layer + 0.88, 2 * edge + 1.0, 0.16, facecolors=GREY, zorder=4)


def _colour(gradient):
    return matplotlib.colormaps["plasma"](SCALE(gradient))
