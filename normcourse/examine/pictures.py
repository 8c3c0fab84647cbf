"""The pictures of an examination: the model in cross-section, and its variance, gradients and updates with theory."""

import base64

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import PolyCollection

from .. import canvas
from ..canvas import (
    GREY,
    STYLES,
    curve,
    decades,
    finding,
    legible,
    note,
    number,
    setup,
    text,
    theory,
    tone,
    window,
)
from .wirings import NOT_OURS, wiring_name

BLOCK = ("第几块", "block")
FADES = 3  # powers of ten from the colour of the largest gradient to that of the smallest
GRID = {"hspace": 0.75, "wspace": 0.3, "left": 0.08, "right": 0.95}  # of the four pictures
TRUNK, REACH = 0.34, 1.0  # half the thickness of the trunk at its thickest, height of the branches


class Picture:
    """A finished figure: a notebook shows it, `png` gives its bytes, `alt` says in words what is in it."""

    def __init__(self, seen):
        self.figure, _ = canvas.new_figure((11, 7), nrows=2, ncols=2, gridspec_kw=GRID)
        canvas.redraw(self.figure, four, seen.anatomy)
        self.alt = canvas.alt_text(self.figure)

    def png(self):
        """PNG bytes."""
        return canvas.png(self.figure)

    def _repr_mimebundle_(self, **kwargs):
        picture = base64.b64encode(self.png()).decode()
        return {"image/png": picture, "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def four(frame, axes):
    """All four pictures of an examination's `anatomy`."""
    for draw, ax in zip((x_ray, variance, gradient, update), np.ravel(axes)):
        draw(frame, ax)


def x_ray(frame, ax):
    """The model in cross-section, from left to right: the trunk as thick as the stream's root mean square (dashed: in
    theory), coloured by the gradient that arrives; a bow for every branch, a bar for every norm, a gap for no skip.

    The column `here`, where there is one, is the block that the gradient has got back to; before it all is grey.
    """
    blocks = frame.drop_duplicates("block")
    depth, here = len(blocks), int(frame["here"].iloc[0]) if "here" in frame else 1
    across, up = (("从输入到输出", "from the input to the output"), ("主干的均方根", "root mean square of the stream"))
    setup(ax, across, up, (-0.1, depth + 0.1), (-0.75 if "here" in frame else -0.4, 1.1))
    ax.set_axis_off()
    rms, gradient = blocks["rms"].to_numpy(float), blocks["gradient"].to_numpy(float)
    expected = np.sqrt(blocks["theory_variance"].to_numpy(float) + np.maximum(rms**2 - blocks["variance"], 0))
    thickest = np.nanmax(np.concatenate([rms, expected]))
    thick = TRUNK * np.nan_to_num(rms / thickest, nan=0.0)
    with np.errstate(all="ignore"):
        share = 1 + np.log10(gradient / np.nanmax(gradient)) / FADES
    colours = colormaps["plasma"](0.15 + 0.75 * np.clip(np.nan_to_num(share, nan=0.0, neginf=0.0), 0, 1))
    colours[: here - 1] = [*_rgb(tone("empty")), 1]
    _trunk(ax, frame, thick, colours)
    for _, row in frame.iterrows():
        _branch(ax, row, frame, thick[int(row["block"]) - 1])
    if np.isfinite(expected).all():
        at = np.arange(depth) + 0.5
        for sign in (1, -1):
            theory(ax, f"trunk {sign}", at, sign * TRUNK * expected / thickest)
    if "here" in frame:
        ax.plot([here - 1, here], [-0.5, -0.5], color=tone("ink"), linewidth=2)
        words = text(
            f"第 {here} 块：梯度 {number(gradient[here - 1])}",
            f"block {here}: gradient {number(gradient[here - 1])}",
            "  ",
        )
        note(ax, "here", 0 if here <= depth / 2 else depth, -0.68, words, ha="left" if here <= depth / 2 else "right")
    _title(ax, frame, rms)


def _trunk(ax, frame, thick, colours):
    cut = {*frame["block"][(frame["placement"] == "plain")]}
    before = np.concatenate([thick[:1], thick[:-1]])
    corners, faces = [], []
    for l, (left, right) in enumerate(zip(before, thick)):
        if l + 1 in cut:
            for start, end, half in ((l, l + 0.25, left), (l + 0.75, l + 1, right)):
                corners.append([(start, -half), (end, -half), (end, half), (start, half)])
                faces.append(colours[l])
        else:
            corners.append([(l, -left), (l + 1, -right), (l + 1, right), (l, left)])
            faces.append(colours[l])
    ax.add_collection(PolyCollection(corners, facecolors=faces, edgecolors="none"), autolim=False)


def _branch(ax, row, frame, foot):
    """A bow from where the branch reads to where it is added, with its norms as bars."""
    placement, mine = row["placement"], frame[frame["block"] == row["block"]]
    share = 1 / len(mine)
    parallel = placement == "parallel"
    left = row["block"] - 1 + (0.0 if parallel else (row["branch"] - 1) * share)
    width = 1.0 if parallel else share
    colour = STYLES[placement].colour if placement in STYLES else GREY
    height = REACH * (0.55 + 0.45 * row["branch"] / len(mine)) if parallel else REACH
    t = np.linspace(0, np.pi, 40)
    x, y = left + width * (0.5 - 0.38 * np.cos(t)), foot + (height - foot) * np.sin(t) ** 0.6
    dashes = (0, (1, 1.5)) if placement in (NOT_OURS, "plain") else "-"
    ax.plot(x, y, color=colour, linewidth=1.8, linestyle=dashes, zorder=3)
    ax.plot(left + width / 2, height, "s", color=colour, markersize=max(2.5, min(8, 90 / len(frame))), zorder=4)
    bars = []
    if placement in ("pre_norm", "peri_norm", "layer_scale", "scaled_pre_norm", "parallel"):
        bars.append((x[6], y[6]))
    if placement in ("res_post_norm", "peri_norm"):
        bars.append((x[-7], y[-7]))
    for bx, by in bars:
        half = 0.12 * min(width, 1)
        ax.plot([bx - half, bx + half], [by, by], color=tone("ink"), linewidth=2.4, zorder=5)
    if placement in ("post_norm", "deep_norm"):
        ax.plot([left + width * 0.95] * 2, [-TRUNK - 0.05, TRUNK + 0.05], color=tone("ink"), linewidth=2.0, zorder=5)


def _title(ax, frame, rms):
    placement = frame["placement"].mode().iloc[0]
    odd = frame[frame["placement"] != placement]
    zh, en = wiring_name(placement)
    depth = int(frame["block"].max())
    grows = number(rms[-1] / rms[0]) if rms[0] else "∞"
    zh, en = f"{depth} 块，{zh}：均方根 × {grows}", f"{depth} blocks, {en}: RMS × {grows}"
    if "here" in frame:
        blocks = frame.drop_duplicates("block").set_index("block")["gradient"]
        here = int(frame["here"].iloc[0])
        times = number(blocks[here] / blocks.iloc[-1])
        zh, en = wiring_name(placement)
        zh = f"{zh}：走回第 {here} 块，梯度是最后一块的 {times} 倍"
        en = f"{en}: back at block {here} the gradient is {times} times that of the last"
    elif len(odd):
        where = int(odd["block"].iloc[0])
        zh = f"第 {where} 块是{wiring_name(odd['placement'].iloc[0])[0]}，其余是{wiring_name(placement)[0]}"
        en = f"block {where} is {wiring_name(odd['placement'].iloc[0])[1]}, the others {wiring_name(placement)[1]}"
    finding(ax, zh, en[0].upper() + en[1:])


def variance(frame, ax):
    """The variance of the stream after every block, theory over it."""
    blocks = _axis(frame, ax, ("方差", "variance"), ["variance", "theory_variance"])
    _lines(ax, blocks, "variance")
    first, last = blocks["variance"].iloc[0], blocks["variance"].iloc[-1]
    times = number(last / first) if first else "∞"
    finding(ax, f"方差变成 {times} 倍", f"The variance becomes {times} times as large")


def gradient(frame, ax):
    """The norm of the gradient with respect to the stream after every block."""
    blocks = _axis(frame, ax, ("梯度范数", "gradient norm"), ["gradient"])
    _lines(ax, blocks, "gradient")
    last = blocks["gradient"].iloc[-1]
    times = number(blocks["gradient"].iloc[0] / last) if last else "∞"
    finding(ax, f"第 1 块的梯度是最后一块的 {times} 倍", f"The gradient after block 1 is {times} times the last one's")


def update(frame, ax):
    """How much every block changes the stream."""
    blocks = _axis(frame, ax, ("‖Δx‖ / ‖x‖", "‖Δx‖ / ‖x‖"), ["relative_update", "theory_update"])
    _lines(ax, blocks, "relative_update", "theory_update")
    first, last = (f"{blocks['relative_update'].iloc[i]:.0%}" for i in (0, -1))
    finding(
        ax, f"第 1 块改变主干 {first}，最后一块 {last}", f"Block 1 changes the stream by {first}, the last by {last}"
    )


def _axis(frame, ax, name, columns):
    blocks = frame.drop_duplicates("block")
    depth = int(blocks["block"].max())
    limits = window(depth, *((0.5, end + 0.5) for end in (6, 12, 24, 48, 96, 200)))
    setup(ax, BLOCK, name, limits, decades(blocks[columns], 1), "log")
    return blocks


def _lines(ax, blocks, column, expected=None):
    placement = blocks["placement"].mode().iloc[0]
    colour = {} if placement in STYLES else {"color": legible(GREY), "marker": "o"}
    curve(ax, column, blocks["block"], blocks[column], None, placement, **colour)
    expected = expected or f"theory_{column}"
    if expected in blocks and blocks[expected].notna().any():
        theory(ax, column, blocks["block"], blocks[expected], text("理论", "theory", " "))


def _rgb(colour):
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
