"""The signature picture of chapter 02: the gradient as a river with loops; cut one and see what still arrives."""

import functools
import itertools

import numpy as np
import pandas as pd
import torch
from torch import nn

from ...canvas import GREY, STYLES, finding, note, number, text
from ...i18n import term
from ...measure import path_gradients
from ...models import deep_mlp
from ..scenes import ink, paper, stage

DEPTH, WIDTH = 8, 64
DEEP, BED = 3.8, -5.7  # width of the river at the input with nothing cut, and where the plain one flows


def river(cut=4, gain=0.8, seed=0):
    """The gradient on its way back through 8 layers, one of which, `cut`, passes nothing (0: none), plain and residual.

    Columns: placement, layer; gradient, what is left there of 1; branch, what came through the branch of the layer
    above it; for the residual network path_length and share, the part of the square that has met so many branches.
    """
    frames = []
    for placement in ("residual", "plain"):
        whole = _flow(placement, 0, gain, seed)["gradient"].iloc[0]
        frames.append(_flow(placement, cut, gain, seed).assign(whole=whole))
    return pd.concat(frames).assign(cut=cut)


@functools.lru_cache(maxsize=64)
def _flow(placement, cut, gain, seed):
    model = deep_mlp(DEPTH, WIDTH, placement, gain=gain, seed=seed)
    if cut:
        model.blocks[cut - 1].sublayer.scale(0.0)
    inputs = model.random_inputs(16, torch.Generator().manual_seed(2**31 + seed))  # not the numbers of the weights
    direction = torch.randn(16, WIDTH, generator=torch.Generator().manual_seed(2**31 + seed + 1000))
    states = model.stream(inputs.requires_grad_())
    gradients = torch.autograd.grad((states[-1] * direction / direction.norm()).sum(), states)
    rows = pd.DataFrame({"layer": range(DEPTH + 1), "gradient": [float(g.norm()) for g in gradients]})
    if placement == "plain":
        return rows.assign(placement=placement)
    rows["branch"] = [float((a - b).norm()) for a, b in itertools.pairwise(gradients)] + [0.0]
    blocks, parts = list(model.blocks), []
    for layer, state in enumerate(states):
        model.blocks = nn.ModuleList(blocks[layer:])
        paths = path_gradients(model, state.detach(), seed=seed + 1000)  # in the same direction
        share = paths["gradient_norm"] ** 2
        parts.append(paths[["path_length"]].assign(layer=layer, share=share / share.sum()))
    return rows.merge(pd.concat(parts), on="layer").assign(placement=placement)


def draw(frame, ax):
    """Two rivers flow from the output on the right to the input, as wide as the square of the gradient, so that widths
    add up: the residual one with a tributary for every branch, in bands by the number of branches met; below it the
    plain one."""
    cut = int(frame["cut"].iloc[0])
    residual, plain = (frame[frame["placement"] == name] for name in ("residual", "plain"))
    totals = residual.drop_duplicates("layer").set_index("layer")
    unit = DEEP / totals["whole"].iloc[0] ** 2
    across = ("梯度从右边的输出流向左边的输入", "the gradient flows from the output, right, to the input, left")
    up = ("河宽：梯度的平方", "width: squared gradient")
    stage(ax, across, up, (-2.0, DEPTH + 0.1), (-6.4, 1.8))
    _trunk(ax, residual, totals["gradient"].to_numpy() ** 2 * unit)
    for layer in range(1, DEPTH + 1):
        _loop(ax, layer, totals["branch"][layer - 1] ** 2 * unit, layer == cut)
    _pipe(ax, plain.set_index("layer")["gradient"].to_numpy() ** 2 * unit, cut)
    squares = [float(rows["gradient"].iloc[0]) ** 2 for rows in (residual, plain)]
    for name, height, square in zip(("residual", "plain"), (-DEEP / 2, BED), squares):
        note(ax, f"{name} arrived", -0.5, height, number(square), ha="right", va="center", fontsize=12.5)
        note(ax, name, -0.5, height + 0.45, term(name, "\n"), ha="right", va="bottom")
    words = text("数字：经过了几个分支", "digits: branches passed through", "  ")
    note(ax, "digits", DEPTH, -4.55, words, ha="right", va="center")
    if not cut:
        there = [number(square) for square in squares]
        finding(
            ax,
            f"{DEPTH} 层都通，梯度的平方从 1 变成：残差 {there[0]}，普通 {there[1]}",
            f"Nothing cut, squared gradient: residual {there[0]}, plain {there[1]}",
        )
        return
    kept, none = (f"{square / rows['whole'].iloc[0] ** 2:.0%}" for square, rows in zip(squares, (residual, plain)))
    finding(
        ax,
        f"切断第 {cut} 层，梯度的平方还剩：残差 {kept}，普通 {none}",
        f"Layer {cut} cut, squared gradient: residual {kept}, plain {none}",
    )


def _trunk(ax, rows, width):
    """Bands by number of branches met, none at the bottom and the last on top; their tints get paler."""
    shares = rows.pivot(index="path_length", columns="layer", values="share").fillna(0.0).to_numpy()
    x = np.linspace(-0.4, DEPTH, 40 * DEPTH + 1)
    edges = np.vstack([np.zeros(DEPTH + 1), shares.cumsum(axis=0)]) * width - width
    smooth = np.stack([_ease(edge, x) for edge in edges])
    for met, (low, high) in enumerate(itertools.pairwise(smooth)):
        tint = max(0.15, 0.95 - 0.2 * met)
        ax.fill_between(x, low, high, color=STYLES["residual"].colour, alpha=tint, linewidth=0)
        if met and (high - low).max() > 0.05:
            ax.plot(x, low, color=paper(), linewidth=1.0)
        if high[0] - low[0] > 0.45:
            badge = {"boxstyle": "circle,pad=0.15", "facecolor": paper(), "edgecolor": "none"}
            ax.text(-0.15, (low[0] + high[0]) / 2, str(met), va="center", ha="center", fontsize=9.5, bbox=badge)


def _ease(values, x):
    """Values at the layers 0 … L, each block's change made in the middle of it."""
    layer = np.clip(np.floor(x).astype(int), 0, DEPTH - 1)
    t = np.clip((x - layer - 0.15) / 0.35, 0, 1)
    return values[layer] + (values[layer + 1] - values[layer]) * t * t * (3 - 2 * t)


def _loop(ax, layer, width, cut):
    """The branch of a layer: it leaves the trunk on the right, thin, passes f and comes back as wide as it then is."""
    turn, colour = np.linspace(0, np.pi, 60), STYLES["residual"].colour
    x, y = layer - 0.52 + 0.3 * np.cos(turn), 1.2 * np.sin(turn)
    if cut:
        ax.plot(x, y, color=GREY, linestyle=":", linewidth=1.5)
        ax.plot(x[30], y[30], "x", color=ink(), markersize=13, markeredgewidth=3, zorder=6)
        return
    box = ax.get_window_extent()
    slant = (box.height / np.diff(ax.get_ylim())) / (box.width / np.diff(ax.get_xlim()))  # of a unit up over one across
    dx, dy = np.gradient(x), np.gradient(y) * slant
    half = (0.06 + (width - 0.06) * (turn / np.pi) ** 2) / 2 / np.hypot(dx, dy)
    sides = [(x + sign * half * dy * slant, y - sign * half * dx) for sign in (1, -1)]
    outline = np.hstack([sides[0], np.fliplr(sides[1])]).T
    ax.fill(*outline.T, color=colour, alpha=0.6, linewidth=0)
    _function(ax, layer, 1.2, colour)


def _pipe(ax, width, cut):
    """The plain network: every layer stands in the way."""
    x, colour = np.linspace(-0.4, DEPTH, 40 * DEPTH + 1), STYLES["plain"].colour
    edge = _ease(width, x) / 2
    for side in (-0.55, 0.55):
        ax.plot([-0.4, DEPTH], [BED + side] * 2, color=GREY, linewidth=0.9, linestyle=":")
    ax.fill_between(x, BED - edge, BED + edge, color=colour, linewidth=0)
    for layer in range(1, DEPTH + 1):
        if layer == cut:
            ax.plot(layer - 0.5, BED, "x", color=ink(), markersize=13, markeredgewidth=3, zorder=6)
        else:
            _function(ax, layer, BED, colour)


def _function(ax, layer, height, colour):
    style = {"boxstyle": "round,pad=0.22", "facecolor": paper(), "edgecolor": colour}
    ax.text(layer - 0.52, height, f"f{_below(layer)}", ha="center", va="center", fontsize=9.5, bbox=style, zorder=5)


def _below(layer):
    return str(layer).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
