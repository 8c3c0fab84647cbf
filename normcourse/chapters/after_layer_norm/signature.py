"""The signature picture of chapter 12: hyper-connections as rivers that mix, free and doubly stochastic."""

import functools

import numpy as np
import pandas as pd
import torch

from ...canvas import GREEN, GREY, ORANGE, SKY, VIOLET, note, number, text
from ...models import deep_mlp
from ...residual import HyperConnection
from ..scenes import ink, paper, stage
from .variants import MHC

DEPTH, WIDTH, COPIES = 12, 128, 4
COLOURS = (SKY, ORANGE, GREEN, VIOLET)
LANE = 1.0  # between the middles of two rivers
FULL, FLOOD = 0.8, 1.5  # width of the widest mHC river, and the greatest that is drawn
TITLES = {"hyper_connection": ("超连接", "hyper-connections"), "mhc": ("流形约束超连接", "mHC")}


def rivers(layer=DEPTH, mixing=0.6, seed=0):
    """Four copies of the stream in 12 layers of 128 ReLU branches at initialisation, whose connections were moved at
    random by the strength s: for hyper-connections A = 1 + s·N/2 and B = 1 + s·N/2, for mHC mix = Sinkhorn(b + 4 s·N)
    and post = 2 σ(s·N), which for small s is 1 + s·N/2, with the same normal numbers N.

    Columns: placement, layer, copy; rms of the copy there; w0 … w3, what of each copy of the layer before is in it.
    """
    return pd.concat([_flow(name, mixing, seed) for name in TITLES]).assign(here=layer, mixing=mixing)


@functools.lru_cache(maxsize=64)
def _flow(name, mixing, seed):
    cls = {"hyper_connection": HyperConnection, "mhc": MHC}[name]
    model, generator = deep_mlp(DEPTH, WIDTH, cls, seed=seed), torch.Generator().manual_seed(seed)
    matrices = []
    with torch.no_grad():
        for block in model.blocks:
            noise, write = (
                mixing * torch.randn(COPIES, COPIES, generator=generator),
                torch.randn(4, generator=generator),
            )
            if cls is HyperConnection:
                block.mix[1:] += noise / 2
                block.write += mixing * write / 2
                matrices.append(block.mix[1:].clone())
            else:
                block.mix_bias += 4 * noise
                block.post_bias += mixing * write
                matrices.append(block.weights(torch.zeros(COPIES, WIDTH))[2])
        inputs = model.random_inputs(16, torch.Generator().manual_seed(2**31 + seed))
        states = [inputs.unsqueeze(-2).expand(-1, COPIES, -1)]
        for index, block in enumerate(model.blocks):
            block.depth = DEPTH + 1  # the last one keeps its copies apart, too
            states.append(block(inputs if index == 0 else states[-1]))
    rows = []
    for layer, state in enumerate(states):
        rms = state.square().mean((0, 2)).sqrt().tolist()
        shares = matrices[layer - 1].tolist() if layer else [[float("nan")] * COPIES] * COPIES
        rows += [(layer, copy, rms[copy], *shares[copy]) for copy in range(COPIES)]
    columns = ["layer", "copy", "rms", *(f"w{i}" for i in range(COPIES))]
    return pd.DataFrame(rows, columns=columns).assign(placement=name)


def draw(frame, axes):
    """A panel for each form: the copies are rivers as wide as their rms, in both panels on one scale, and between two
    layers runs from each to each as much as the matrix lets over; what comes in negative is hatched."""
    here = int(frame["here"].iloc[0])
    for ax, (name, rows) in zip(axes, frame.groupby("placement", sort=False)):
        across = ("层，输入在左", "layers, the input on the left")
        stage(ax, across, ("河宽：均方根", "width: rms"), (-0.6, DEPTH + 0.7), (-4.15, 0.95))
        table = rows.pivot(index="layer", columns="copy", values="rms").to_numpy()
        unit = FULL / frame.loc[frame["placement"] == "mhc", "rms"].max()
        for layer in range(here):
            weights = rows[rows["layer"] == layer + 1].sort_values("copy")[[f"w{i}" for i in range(COPIES)]].to_numpy()
            _between(ax, layer, table[layer] * unit, table[layer + 1] * unit, weights)
        for copy in range(COPIES):
            for at in (0, here):
                ax.plot(at, -LANE * copy, "o", color=COLOURS[copy], markersize=7, markeredgecolor=ink(), zorder=6)
        total = float(np.sqrt((table[here] ** 2).mean() / (table[0] ** 2).mean()))
        drowned = bool((table[here] * unit > FLOOD).any())
        zh, en = TITLES[name]
        ax.set_title(
            text(f"{zh}：{here} 层后放大 {number(total)} 倍", f"{en}: × {number(total)} after {here} layers"),
            fontsize=11.5,
        )
        if drowned:
            note(ax, "over", -0.4, -4.05, text("河水出岸", "over the banks", " "), GREY, va="bottom")


def _between(ax, layer, before, after, weights):
    """The stretch between two layers: ribbons from each copy to the others, and each river on its own way."""
    x, t = np.linspace(layer, layer + 1, 30), np.linspace(0, 1, 30)
    ease = t * t * (3 - 2 * t)
    for target in range(COPIES):
        half = np.minimum(before[target] + (after[target] - before[target]) * ease, FLOOD) / 2
        y = -LANE * target
        ax.fill_between(x, y - half, y + half, facecolor=COLOURS[target], alpha=0.55, linewidth=0, zorder=2)
        for source in set(range(COPIES)) - {target}:
            width = min(abs(weights[target, source]) * before[source], FLOOD)
            if width < 0.012:
                continue
            middle = -LANE * (source + (target - source) * ease)
            style = {"hatch": "////", "edgecolor": paper()} if weights[target, source] < 0 else {"edgecolor": "none"}
            ax.fill_between(x, middle - width / 2, middle + width / 2, facecolor=COLOURS[source], alpha=0.8,
                            linewidth=0, zorder=3, **style)  # fmt: skip
