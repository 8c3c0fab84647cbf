"""The signature picture of chapter 00: the numbers of one layer fall into their histogram, then through a norm."""

import numpy as np
import pandas as pd
import torch

from ...canvas import GREY, STYLES, finding, note, setup, text
from ...i18n import term
from ...norms import NORMS
from ..scenes import DASHES, boxes, ink

NUMBERS, STEPS = 256, 24
BIN, REACH, SHELF, ROOM = 0.25, 5.0, 1.28, 1.0


def falling_numbers(progress=STEPS, gain=0.6, norm="layer_norm", seed=0):
    """The 256 numbers y = W x of one layer, W ~ N(0, gain²/256) and x ~ N(0, 1), and what a norm makes of them."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(NUMBERS, NUMBERS, generator=generator) * gain / NUMBERS**0.5
    y = W @ torch.randn(NUMBERS, generator=generator)
    with torch.no_grad():
        normed = NORMS.find(norm)(NUMBERS)(y)
    return pd.DataFrame({"before": y, "after": normed, "progress": progress, "gain": gain, "norm": norm})


def draw(frame, ax):
    """A brick for each number. They fall onto the upper shelf, where they pile up into the histogram of `before`, and
    through the norm onto the lower one, that of `after`; the upper pile stays as an outline."""
    (time, gain, norm), colour = frame.loc[0, ["progress", "gain", "norm"]], STYLES["plain"].colour
    setup(ax, ("数值", "value"), ("个数", "how many"), (-REACH, REACH), (0, SHELF + ROOM + 0.1))
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.grid(False)
    piles = {column: _pile(frame[column].to_numpy()) for column in ("before", "after")}
    brick = ROOM / max(38, *(rank.max() + 1 for _, rank in piles.values()))
    (x, rank), (x_after, rank_after) = piles.values()
    falling = _fallen(rank.argsort(kind="stable"), 2.0 * time / STEPS)
    through = _fallen(rank.argsort(kind="stable"), 2.0 * time / STEPS - 1.0)
    up = SHELF + rank * brick
    height = (SHELF + ROOM + 0.1) * (1 - falling) + up * falling
    here = (falling > 0) & (through == 0)
    shape = {"width": 0.84 * BIN, "height": 0.8 * brick}
    boxes(ax, x[here] - 0.42 * BIN, height[here], **shape, facecolors=colour)
    gone = through > 0
    boxes(ax, x[gone] - 0.42 * BIN, up[gone], **shape, facecolors=colour, alpha=0.3)
    down = up * (1 - through) + rank_after * brick * through
    across = x * (1 - through) + x_after * through
    boxes(ax, across[gone] - 0.42 * BIN, down[gone], **shape, facecolors=STYLES[norm].colour)
    z = np.linspace(-REACH, REACH, 241)
    for base, sigma in ((SHELF, gain), (0.0, gain if norm == "none" else 1.0)):
        density = np.exp(-((z / sigma) ** 2) / 2) / (sigma * np.sqrt(2 * np.pi))
        ax.plot(z, base + NUMBERS * BIN * density * brick, color=ink(), linestyle=DASHES, linewidth=1.2)
    boxes(ax, -REACH, SHELF - 0.2, 2 * REACH, 0.18, facecolors=STYLES[norm].colour, alpha=0.25, edgecolors=GREY)
    note(ax, "norm", 0, SHELF - 0.12, term(norm, " / "), ha="center", va="center")
    sigmas = {column: frame[column].std(ddof=0) for column in piles}
    note(ax, "before", -0.97 * REACH, SHELF + 0.5, f"σ = {sigmas['before']:.2f}", fontsize=15)
    note(ax, "before g", -0.97 * REACH, SHELF + 0.32, f"{text('理论', 'theory', ' ')} g = {gain:.2f}")
    reached = time >= STEPS
    note(ax, "after", -0.97 * REACH, 0.5, f"σ = {sigmas['after']:.2f}" if reached else "", fontsize=15)
    before, after = f"{sigmas['before']:.2f}", f"{sigmas['after']:.2f}"
    if norm == "none":
        finding(ax, f"没有归一化：σ = {before}，随增益 g 变", f"Without a norm σ = {before}, as the gain g has it")
    else:
        finding(
            ax,
            f"归一化之前 σ = {before}，随增益 g 变；之后总是 {after}",
            f"Before the norm σ = {before}, as the gain has it; after it {after}",
        )


def _pile(values):
    """Bin centre and rank within the bin of each number; what is beyond the picture lies at its edge."""
    place = np.floor(np.clip(values, -REACH + BIN / 2, REACH - BIN / 2) / BIN + 0.5).astype(int)
    rank = np.zeros(len(values), int)
    for bin in np.unique(place):
        rank[place == bin] = np.arange((place == bin).sum())
    return place * BIN, rank


def _fallen(order, time):
    """How far of its way each number has fallen, 0 to 1, at a time from 0 to 1; the first of `order` falls first."""
    start = np.empty(len(order))
    start[order] = np.linspace(0, 0.65, len(order))
    return np.clip((time - start) / 0.35, 0, 1) ** 2
