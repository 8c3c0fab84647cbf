"""The signature picture of chapter 10: a row's journey between memory and chip, step by step and fused."""

import functools

import numpy as np
import pandas as pd
import torch

from ...canvas import BLUE, GREY, ORANGE, VERMILLION, note, text
from ..scenes import arrow, boxes, ink, stage
from .counting import Counted, add_rms_norm_steps, memory

LOOKS = {"steps": (VERMILLION, "一步一步", "step by step"), "fused": (BLUE, "融合", "fused")}


def journey(moved=20, program="add_rms_norm", columns=1024):
    """Everything that crosses between memory and chip for one row of fp32 numbers, in the order in which it does: way,
    tensor, up (written) or not, launch, and the bytes that have crossed when it begins and ends, in rows. `moved`: in
    half rows. The weight is read once for all rows and left out."""
    return _crossings(program, columns).assign(moved=moved / 2)


@functools.lru_cache(maxsize=16)
def _crossings(program, columns):
    x, residual, weight = torch.ones(1, columns), torch.ones(1, columns), torch.ones(columns)
    with Counted() as counted:
        found = add_rms_norm_steps(x, residual if program == "add_rms_norm" else None, weight)
    names = {memory(tensor): name for name, tensor in found.items()}
    names = {**dict.fromkeys((m for one in counted.launches for m in one.written), "rstd"), **names}  # mean + ε
    rows = []
    for launch, one in enumerate(counted.launches):
        for up, part in ((False, one.read), (True, one.written)):
            rows += [("steps", names[m], up, launch, size) for m, size in part.items() if names[m] != "w"]
    inputs, outputs = [name for name in ("x", "r") if name in found], [name for name in ("s", "y") if name in found]
    size = 4 * columns
    rows += [("fused", name, False, 0, size) for name in inputs] + [("fused", name, True, 0, size) for name in outputs]
    frame = pd.DataFrame(rows, columns=["way", "tensor", "up", "launch", "bytes"])
    frame["stop"] = frame.groupby("way")["bytes"].cumsum() / size
    return frame.assign(start=frame["stop"] - frame["bytes"] / size)


PLACES = ("x", "r", "s", "s²", "x̂", "y")  # on the shelf; mean and rstd are a number a row
NAMES = {"x": "x", "r": "r", "s": "x + r", "s²": "s²", "x̂": "x̂", "y": "y"}


def draw(frame, axes):
    """Above the memory, a shelf of rows; below the chip; between them the row that is crossing right now, and how many
    have crossed. Both ways have the same clock: a row takes the same time in either."""
    moved, total = frame["moved"].iloc[0], frame.groupby("way")["stop"].max()
    for ax, (way, rows) in zip(axes, frame.groupby("way", sort=False)):
        colour, zh, en = LOOKS[way]
        stage(ax, ("显存和芯片", "memory and chip"), (zh, en), (-0.4, 6.2), (-1.75, 3.5))
        now = moved if moved < total[way] - 0.25 else total[way]  # mean and rstd make the last row end a little late
        _shelf(ax, rows, now, colour)
        _crossing(ax, rows, now, colour)
        done = rows[rows["start"] < now - 1e-9]
        count = text(f"{now:.1f} 行", f"{now:.1f} rows", "  ")
        boxes(ax, 0, -1.1, 5.8, 0.28, facecolors="none", edgecolors=GREY, linewidths=0.8)
        boxes(ax, 0, -1.1, 5.8 * now / total.max(), 0.28, facecolors=colour)
        note(ax, "count", 0, -1.5, count, fontsize=12, va="center")
        launches = done["launch"].nunique()
        words = text(f"启动 {launches} 次", f"{launches} launches" if launches != 1 else "1 launch", "  ")
        note(ax, "launches", 5.8, -1.5, words, ha="right", fontsize=12, va="center")
        ax.set_title(_title(way, now, total[way]), fontsize=11.5)


def _title(way, now, total):
    _, zh, en = LOOKS[way]
    if now < total:
        return text(f"{zh}：还没算完", f"{en}: under way")
    return text(f"{zh}：搬 {total:.1f} 行，算完了", f"{en}: done after {total:.1f} rows")


def _shelf(ax, rows, now, colour):
    boxes(ax, -0.2, 2.0, 6.2, 1.15, facecolors=ORANGE, alpha=0.12)
    boxes(ax, 1.9, -0.5, 2.0, 0.9, facecolors=GREY, alpha=0.3)
    note(ax, "chip", 2.9, -0.28, text("芯片", "chip", " "), ha="center", va="center", fontsize=11)
    note(ax, "memory", -0.15, 3.3, text("显存", "memory", " "), va="center", fontsize=11)
    known, there = set(rows["tensor"]), rows[rows["up"] & (rows["stop"] <= now + 1e-9)]["tensor"]
    for place, name in enumerate(PLACES):
        if name in known:
            full = name in ("x", "r") or name in set(there)
            look = {"facecolors": colour if full else "none", "alpha": 0.55 if full else None}
            boxes(ax, place, 2.2, 0.8, 0.4, edgecolors=colour if full else GREY, linewidths=1, **look)
            note(ax, name, place + 0.4, 2.85, NAMES[name], ha="center", va="center", fontsize=11)


def _crossing(ax, rows, now, colour):
    """The row that is half-way, if any; at the very end nothing moves."""
    under_way = rows[(rows["start"] < now - 1e-9) & (rows["stop"] > now - 0.5 - 1e-9) & rows["tensor"].isin(PLACES)]
    if not len(under_way) or now >= rows["stop"].max() - 1e-9:
        return
    one = under_way.iloc[-1]
    place = PLACES.index(one["tensor"]) + 0.4
    share = np.clip((now - one["start"]) / (one["stop"] - one["start"]), 0, 1)
    along = 1 - share if one["up"] else share
    ends = np.array([[place, 2.15], [2.9, 0.45]])
    arrow(ax, *(ends[::-1] if one["up"] else ends), ink(), 1.2, zorder=3)
    middle = ends[0] + (0.15 + 0.7 * along) * (ends[1] - ends[0])
    boxes(ax, middle[0] - 0.4, middle[1] - 0.15, 0.8, 0.3, facecolors=colour, edgecolors=ink(), linewidths=1, zorder=5)
