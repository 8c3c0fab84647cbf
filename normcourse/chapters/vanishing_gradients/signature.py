"""The signature picture of chapter 01: the network as a wall of neurons, the gradient walks back through it."""

import functools

import numpy as np
import pandas as pd
import torch

from ... import theory
from ...canvas import GREY, STYLES, finding, note, number, text
from ...models import deep_mlp
from ..scenes import DASHES, arrow, ink, stage

DEPTH, WIDTH, SHOWN = 50, 64, 20
MILLIONTH = 1e-6


def wall(back=DEPTH, gain=0.6, activation="relu", seed=0):
    """The gradient at every neuron of a plain network of 50 layers of 64, its norm over a batch of 16, in fp64. 1 is
    sent back from the last layer, whole, in a random direction."""
    frame = _gradients(gain, activation, seed)
    return frame.assign(back=back)


@functools.lru_cache(maxsize=64)
def _gradients(gain, activation, seed):
    generator = torch.Generator().manual_seed(2**31 + seed)  # not the numbers that make the first weight matrix
    model = deep_mlp(DEPTH, WIDTH, "plain", activation=activation, gain=gain, seed=seed).double()
    inputs, direction = torch.randn(2, 16, WIDTH, generator=generator, dtype=torch.float64)
    states = model.stream(inputs.requires_grad_())
    gradients = torch.autograd.grad((states[-1] * direction / direction.norm()).sum(), states)
    _, expected = theory.mean_field("plain", DEPTH, gain, activation)
    norms = torch.stack([gradient.norm(dim=0) for gradient in gradients]).numpy()
    layer, neuron = np.indices(norms.shape)
    columns = {"layer": layer.ravel(), "neuron": neuron.ravel(), "gradient": norms.ravel()}
    return pd.DataFrame(columns).assign(theory=np.repeat(expected, WIDTH))


def draw(frame, ax):
    """A square for each neuron, the input on the left: the side grows with the logarithm of its share of the gradient
    and is 0 at 10⁻⁶; where that is nothing or the gradient has not been yet, dots. 20 neurons of each layer are drawn.
    """
    back, colour = int(frame["back"].iloc[0]), STYLES["plain"].colour
    grid = frame.pivot(index="layer", columns="neuron", values="gradient").to_numpy()
    whole, front = np.linalg.norm(grid, axis=1), DEPTH - back
    across, up = (
        ("网络的层，输入在左，输出在右", "layers of the network, input left, output right"),
        ("神经元", "neurons"),
    )
    stage(ax, across, up, (-1.2, DEPTH + 1.2), (-3.6, SHOWN + 4.2))
    layer, neuron = np.indices((DEPTH + 1, SHOWN))
    share = grid[:, :SHOWN] * WIDTH**0.5  # 1: as large as that of the output's neurons, on average
    side = np.clip(0.65 + 0.65 * np.log10(np.maximum(share, 1e-30)) / 6, 0.0, 1.0)
    lit = (layer >= front) & (side > 0.1)
    ax.scatter(layer[~lit], neuron[~lit], s=2, color=GREY, alpha=0.7, linewidths=0)
    ax.scatter(layer[lit], neuron[lit], s=(7.4 * side[lit]) ** 2, marker="s", color=colour, linewidths=0)
    arrow(ax, (DEPTH, SHOWN + 0.6), (front - 0.2, SHOWN + 0.6), colour, 1.6)
    place = {"ha": "left" if front < DEPTH / 2 else "right", "va": "bottom", "fontsize": 16}
    note(ax, "counter", front, SHOWN + 1.1, f"× {number(whole[front])}", **place)
    note(ax, "input", 0, -1.2, text("输入", "input", " "), va="top", ha="left")
    note(ax, "output", DEPTH, -1.2, text("输出", "output", " "), va="top", ha="right")
    expected = frame.drop_duplicates("layer")["theory"].to_numpy()
    if expected[0] < MILLIONTH < expected[-1]:
        spot = float(np.interp(np.log(MILLIONTH), np.log(expected), np.arange(DEPTH + 1)))
        ax.plot([spot, spot], [-1.4, SHOWN], color=ink(), linestyle=DASHES, linewidth=1.2)
        note(
            ax, "theory", spot, -1.7, text("理论：到这里只剩 10⁻⁶", "theory: 10⁻⁶ is left here"), va="top", ha="center"
        )
    lost, left = int((whole[front:] < MILLIONTH).sum()), number(whole[front])
    if lost:
        finding(
            ax,
            f"往回走 {back} 层，梯度只剩 {left}；{lost} 层分到的不足 10⁻⁶",
            f"{back} layers back {left} is left; {lost} layers get less than 10⁻⁶",
        )
    elif whole[front] < 1:
        finding(ax, f"往回走 {back} 层，梯度还剩 {left}", f"{back} layers back {left} of the gradient is left")
    else:
        finding(ax, f"往回走 {back} 层，梯度变成 {left} 倍", f"{back} layers back the gradient has grown {left} times")
