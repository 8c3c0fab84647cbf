"""The signature picture of chapter 11: four ranks with their slices of one token, and the messages on the wire."""

import numpy as np
import pandas as pd
import torch

from ...canvas import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, finding, note, signed, text
from ..scenes import arrow, boxes, ink, paper, stage
from .statistics import merge, normalise, of_slice

RANKS, EACH = 4, 4
EACH_ROUND = 6  # moments: five with messages on their way, then what they said is merged
STEPS = 2 * EACH_ROUND
COLOURS = (BLUE, ORANGE, GREEN, PURPLE)


def exchange(moment=STEPS, skew=2.0, seed=0):
    """One token of sixteen features on four ranks: every number by rank, what the rank knows by now (count, mean), the
    output it would compute with that, and its error. Between the rounds messages are on their way to `partner`."""
    generator = torch.Generator().manual_seed(seed)
    shift = skew * torch.randn(RANKS, 1, generator=generator)
    x = (shift + torch.randn(RANKS, EACH, generator=generator)).double()
    known, partner = [of_slice(part[None]) for part in x], np.full(RANKS, -1)
    done, way = divmod(moment, EACH_ROUND)
    if way:
        partner = np.arange(RANKS) ^ (1 << done)
    for bit in range(done):
        others = [known[rank ^ (1 << bit)] for rank in range(RANKS)]
        known = [
            merge(*pair) if r < r ^ (1 << bit) else merge(*pair[::-1]) for r, pair in enumerate(zip(known, others))
        ]
    right = torch.nn.functional.layer_norm(x.flatten(), (RANKS * EACH,), eps=1e-5)
    y = torch.cat([normalise(part[None], one)[0] for part, one in zip(x, known)])
    error = ((y - right).square().mean() / right.square().mean()).sqrt().item()
    frame = pd.DataFrame({"rank": np.repeat(range(RANKS), EACH), "value": x.flatten(), "output": y})
    for name, column in (("count", 0), ("mean", 1)):
        frame[name] = np.repeat([one[column].item() for one in known], EACH)
    known = {"round": done + bool(way), "way": way / EACH_ROUND, "bytes": 12 * done}
    return frame.assign(partner=np.repeat(partner, EACH), error=error, **known)


def draw(frame, ax):
    """Ranks side by side: their numbers as bars about zero, the mean that they know as a line across, and how many
    numbers that mean is of. Arrows: three numbers to the partner."""
    round, error, sent = (frame[name].iloc[0] for name in ("round", "error", "bytes"))
    top = max(1.0, frame["value"].abs().max())
    stage(ax, ("四个进程", "four ranks"), ("各自的特征和均值", "their features and means"), (-0.2, 23.2), (-2.1, 2.4))
    for rank, rows in frame.groupby("rank"):
        left, colour = 6 * rank, COLOURS[rank]
        boxes(ax, left - 0.15, -1.15, 5.2, 2.3, facecolors=colour, alpha=0.1)
        heights = rows["value"].to_numpy() / top
        boxes(ax, left + 1.2 * np.arange(EACH) + 0.2, np.minimum(heights, 0), 0.9, np.abs(heights), facecolors=colour)
        ax.plot([left - 0.15, left + 5.05], [0, 0], color=GREY, linewidth=0.8)
        mean, count = rows["mean"].iloc[0], rows["count"].iloc[0]
        ax.plot([left - 0.15, left + 5.05], [mean / top] * 2, color=ink(), linewidth=2.2, zorder=6)
        words = text(f"进程 {rank}", f"rank {rank}", "  ")
        note(ax, f"rank {rank}", left + 2.45, 1.38, words, ha="center", va="center", fontsize=11)
        words = text(f"{count:.0f} 个数，μ = {signed(mean, 2)}", f"μ = {signed(mean, 2)} of {count:.0f}")
        note(ax, f"mean {rank}", left + 2.45, -1.78, words, ha="center", va="center", fontsize=10.5)
    _messages(ax, frame)
    if frame["partner"].iloc[0] >= 0:
        zh, en = "每个进程发三个数，共 12 字节", "every rank sends three numbers, 12 bytes"
        finding(ax, f"第 {round} 轮：{zh}", f"Round {round}: {en}")
    elif error > 1e-6:
        zh = f"各发 {sent:.0f} 字节之后，输出还差 {error:.0%}"
        finding(ax, zh, f"After {sent:.0f} bytes from each, the output is off by {error:.0%}")
    else:
        zh = f"各发 {sent:.0f} 字节之后，四个均值相同，输出准确"
        finding(ax, zh, f"After {sent:.0f} bytes from each, all means agree and the output is right")


def _messages(ax, frame):
    for rank, rows in frame.groupby("rank"):
        partner = rows["partner"].iloc[0]
        if partner > rank:
            low, high = 6 * rank + 2.45, 6 * partner + 2.45
            height = 1.72 if partner - rank == 1 else 1.72 + 0.34 * (rank % 2)
            arrow(ax, (low + 0.4, height), (high - 0.4, height), VERMILLION, 1.6, zorder=7, arrowstyle="<|-|>")
            way = rows["way"].iloc[0]
            for place, shift in ((way, 0.12), (1 - way, -0.12)):  # both cross at once, each on its side of the wire
                middle = low + 0.9 + place * (high - low - 1.8)
                lift = height + shift
                boxes(ax, middle - 0.36, lift - 0.07, 0.72, 0.14, facecolors=paper(), edgecolors=VERMILLION)
                for k in range(3):
                    boxes(ax, middle - 0.3 + 0.21 * k, lift - 0.04, 0.17, 0.08, facecolors=VERMILLION)
