"""The signature picture of chapter 08: towers of a thousand layers at night, the gradient comes down through them as
light."""

import functools

import numpy as np
import pandas as pd
import torch
from matplotlib.colors import to_rgb

from ...canvas import finding, note, number
from ...i18n import TERMS, text
from ...measure import gradient_norms
from ..scenes import boxes, stage
from .starts import tower

SHOWN = ("plain", "unscaled", "post_norm", "pre_norm", "multiplied", "deep_norm")
STOREYS, WINDOWS = 50, 9
NIGHT, WALL, LIGHT, GLARE = "#0d1430", "#3a4256", "#ffd75e", "#ff6a3d"
DARK, BLINDING = -6, 6  # powers of ten: no window is lit, and as bright as can be drawn


def towers(storeys=50, depth=1000):
    """The gradient at every layer of six stacks of width 16 before training, in fp64; 1 is sent back from the top, and
    is on its way down `storeys` of 50."""
    return pd.concat([_tower(start, depth) for start in SHOWN]).assign(back=storeys * depth // STOREYS)


@functools.lru_cache(maxsize=32)
def _tower(start, depth):
    model = tower(start, depth).double()
    inputs = model.random_inputs(2, torch.Generator().manual_seed(2**31)).double()
    return gradient_norms(model, inputs, start=start)


def draw(frame, ax):
    """A tower for each start, the input at the ground: so many of a storey's nine windows are lit as the logarithm of
    its gradient says, none at 10⁻⁶, all at 1; above 1 the light spills over the walls."""
    back, depth = int(frame["back"].iloc[0]), int(frame["layer"].max())
    front, total = depth - back, 1.9 * len(SHOWN)
    up = ("层，输入在地面", "layers, the input at the ground")
    stage(ax, ("接法", "wirings"), up, (-0.5, total), (-13, STOREYS + 5.5))
    boxes(ax, -0.5, 0, total + 0.5, STOREYS + 4, facecolors=NIGHT)
    least, most = None, None
    for place, (start, rows) in enumerate(frame.groupby("start", sort=False)):
        left = 0.2 + 1.9 * place
        gradient = rows.sort_values("layer")["gradient_norm"].to_numpy()
        storeys = np.exp([part.mean() for part in np.array_split(np.log(np.maximum(gradient[1:], 1e-300)), STOREYS)])
        _lights(ax, left, storeys, np.arange(1, STOREYS + 1) * depth / STOREYS > front)
        here = gradient[front]
        zh, en = TERMS[start]
        note(ax, start, left + 0.6, -1.2, f"× {number(here)}", ha="center", va="top", fontsize=11)
        note(ax, f"{start} name", left + 0.6, -5.0, text(zh, en), ha="center", va="top", fontsize=8.5)
        least = min(least or (here, zh, en), (here, zh, en))
        most = max(most or (here, zh, en), (here, zh, en))
    low, high = number(least[0]), number(most[0])
    if back == 0:
        finding(
            ax,
            f"{depth} 层的塔：梯度从塔顶出发，各是 1",
            f"Towers of {depth} layers: a gradient of 1 starts at each top",
        )
    else:
        finding(
            ax,
            f"往下 {back} 层：{least[1]}剩 {low}，{most[1]}变成 {high}",
            f"{back} layers down: {low} is left in {least[2]}, {high} in {most[2]}",
        )


def _lights(ax, left, storeys, reached):
    power = np.log10(storeys)
    lit = np.where(reached, np.clip(np.ceil(WINDOWS * (1 - power / DARK)), 0, WINDOWS), 0)
    spill = np.where(reached, np.clip(power / BLINDING, 0, 1), 0)
    floor = np.arange(STOREYS, dtype=float)
    for share, strength in ((1.0, 0.25), (0.6, 0.35), (0.3, 0.5)):  # a halo, brighter towards the wall
        wide = 0.34 * spill * share
        boxes(
            ax,
            left - wide,
            floor,
            1.2 + 2 * wide,
            1.0,
            facecolors=[(*to_rgb(GLARE), strength * (s > 0.02)) for s in spill],
        )
    boxes(ax, left, 0, 1.2, STOREYS, facecolors=WALL)
    y, x = np.nonzero(np.arange(WINDOWS) < lit[:, None])
    middle = np.argsort(np.abs(np.arange(WINDOWS) - WINDOWS // 2), kind="stable")  # lit from the middle outwards
    mixed = [(1 - s) * np.array(to_rgb(LIGHT)) + s * np.array(to_rgb("#ffffff")) for s in spill]
    if len(y):
        boxes(ax, left + 0.06 + 1.08 / WINDOWS * middle[x], y + 0.2, 0.085, 0.6, facecolors=[mixed[i] for i in y])
