"""The signature picture of chapter 05: the mean as a see-saw, and a race over measured times."""

import functools
import time

import numpy as np
import pandas as pd
import torch

from ...canvas import GREY, STYLES, note, signed, text
from ...norms import layer_norm, rms_norm
from ..scenes import boxes, ink, paper, stage
from .evidence import forms

STEPS = 24
RUNNERS = ("F.layer_norm", "F.rms_norm", "layer_norm", "rms_norm")
ROWS, WIDTH = 1024, 512
PITCH = 0.22  # between weights on the beam


def seesaw_and_race(progress=STEPS, mean_shift=1.0, seed=0):
    """Sixteen numbers with mean m and standard deviation 1 after each norm (norm, value), and how long the forward
    passes over 1024 × 512 numbers take on this machine (form, milliseconds), measured once."""
    z = torch.randn(16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = (z - z.mean()) / z.std(unbiased=False) + mean_shift
    values = [pd.DataFrame({"norm": n, "value": f(x)}) for n, f in (("layer_norm", layer_norm), ("rms_norm", rms_norm))]
    times = pd.DataFrame({"form": RUNNERS, "milliseconds": _times()})
    return pd.concat([*values, times]).assign(progress=progress)


@functools.cache
def _times(repeats=15):
    """The shortest of so many runs of each: what other programs do meanwhile only adds."""
    functions, _, _ = forms(ROWS, WIDTH)
    fastest = dict.fromkeys(RUNNERS, float("inf"))
    with torch.no_grad():
        for _ in range(repeats):
            for name in RUNNERS:
                start = time.perf_counter()
                functions[name]()
                fastest[name] = min(fastest[name], 1e3 * (time.perf_counter() - start))
    return tuple(fastest.values())


def draw(frame, axes):
    """Left, the outputs of both norms as weights on a beam over 0: it tips where their mean is not 0. Right, how many
    passes each form has done by now; the race ends when the slowest has done one."""
    progress = frame["progress"].iloc[0] / STEPS
    left, right = axes
    stage(left, ("数值，支点在 0", "value, the pivot at 0"), ("杠杆", "see-saw"), (-3.6, 3.6), (-2.6, 2.5))
    means = {}
    for norm, base in (("layer_norm", 0.55), ("rms_norm", -2.0)):
        values = frame.loc[frame["norm"] == norm, "value"].to_numpy()
        means[norm] = values.mean()
        _seesaw(left, norm, base, values, progress)
    m = signed(means["rms_norm"], 2)
    left.set_title(text(f"均值：RMSNorm {m}，LayerNorm 0", f"mean: RMSNorm {m}, LayerNorm 0"), fontsize=11.5)
    _race(right, frame.dropna(subset="form").set_index("form")["milliseconds"], progress)


def _seesaw(ax, norm, base, values, progress):
    colour, tilt = STYLES[norm].colour, np.radians(-10 * values.mean() * progress)
    along, up = np.array([np.cos(tilt), np.sin(tilt)]), np.array([-np.sin(tilt), np.cos(tilt)])
    pivot = np.array([0.0, base])
    ends = pivot + np.outer([-3.1, 3.1], along)
    ax.plot(*ends.T, color=ink(), linewidth=3, zorder=3, solid_capstyle="round")
    ax.fill([-0.25, 0.25, 0], [base - 0.5, base - 0.5, base - 0.03], color=GREY, linewidth=0)
    place, rank = np.round(values / PITCH).astype(int), np.zeros(len(values), int)
    for bin in np.unique(place):
        rank[place == bin] = np.arange((place == bin).sum())
    spots = pivot + np.outer(place * PITCH, along) + np.outer(0.15 + 0.2 * rank, up)
    ax.scatter(*spots.T, s=64, color=colour, zorder=4, linewidths=0)
    name = {"layer_norm": "LayerNorm", "rms_norm": "RMSNorm"}[norm]
    note(ax, norm, -3.5, base + 1.3, name, fontsize=12)
    words = text("均值", "mean", " ")
    note(ax, f"{norm} mean", 3.5, base + 1.3, f"{words} {signed(values.mean(), 2)}", ha="right", fontsize=12)


def _race(ax, milliseconds, progress):
    passes = milliseconds.max() / milliseconds
    top = max(2.0, passes.max())
    stage(ax, ("算完几遍", "passes done"), ("赛道", "lanes"), (-0.02 * top, 1.2 * top), (4.1, -0.7))
    for lane, form in enumerate(RUNNERS):
        by_hand, norm = not form.startswith("F."), form.removeprefix("F.")
        colour, done = STYLES[norm].colour, passes[form] * progress
        style = {"facecolors": paper(), "hatch": "///"} if by_hand else {"facecolors": colour}
        boxes(ax, 0, lane + 0.02, max(done, 1e-3), 0.36, edgecolors=colour, linewidths=1.2, **style)
        ax.plot(done, lane + 0.2, marker=STYLES[norm].marker, color=ink(), markersize=9, zorder=5)
        words = f"{form}   {milliseconds[form]:.2f} ms"
        words += text("   从零写的", "   from scratch", " ") if by_hand else ""
        note(ax, form, 0, lane - 0.06, words, va="bottom")
        note(ax, f"{form} passes", done + 0.045 * top, lane + 0.2, f"× {done:.1f}", va="center", fontsize=12)
    torch_ratio = milliseconds["F.rms_norm"] / milliseconds["F.layer_norm"]
    ours = milliseconds["rms_norm"] / milliseconds["layer_norm"]
    words = text(
        f"RMSNorm 耗时 × {torch_ratio:.1f}，从零写 × {ours:.1f}",
        f"RMSNorm's time × {torch_ratio:.1f}, by hand × {ours:.1f}",
    )
    ax.set_title(words, fontsize=11.5)
