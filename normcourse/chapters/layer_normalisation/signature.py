"""The signature picture of chapter 03: points fall onto a circle or a sphere, and a gradient loses its shadows."""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from ...canvas import GREEN, GREY, STYLES, note, text
from ...i18n import TERMS
from ...norms import layer_norm, layer_norm_backward, rms_norm, rms_norm_backward
from ..scenes import arrow, ink, stage
from .drawings import _surface, _view

POINTS, STEPS = 40, 24
LENGTH = 2.6  # of the gradient


def shadows(progress=STEPS, azimuth=20, seed=1):
    """Points of three features and what both norms make of them, and at one of them a gradient.

    Columns: norm; x, c, y: input, centred, output (three numbers each); of the first point also g, a gradient at the
    output, d, what the norm passes back of it times √(σ² + ε), and m and r, the parts of g along (1, 1, 1) and along y.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(POINTS, 3, generator=generator, dtype=torch.float64) + torch.tensor([0.9, 0.4, 0.7])
    g = LENGTH * F.normalize(torch.randn(POINTS, 3, generator=generator, dtype=torch.float64), dim=-1)
    x[0] = torch.tensor([0.2, 2.0, 0.8])
    frames = []
    for norm, forward, backward in (
        ("layer_norm", layer_norm, layer_norm_backward),
        ("rms_norm", rms_norm, rms_norm_backward),
    ):
        y = forward(x, eps=1e-12)
        centred = x - x.mean(-1, keepdim=True) if norm == "layer_norm" else x
        passed = backward(g, x, eps=1e-12)[0] * centred.square().mean(-1, keepdim=True).sqrt()
        along_y = y * (g * y).mean(-1, keepdim=True)
        mean = g - passed - along_y  # what else is missing: nothing for RMSNorm
        columns = {"x": x, "c": centred, "y": y, "g": g, "d": passed, "m": mean, "r": along_y}
        frames.append(pd.DataFrame({f"{k}{i}": v[:, i].numpy() for k, v in columns.items() for i in range(3)}))
        frames[-1] = frames[-1].assign(norm=norm)
    return pd.concat(frames).assign(progress=progress, azimuth=azimuth)


def draw(frame, axes):
    """A panel for each norm. In the first half every point goes its way, to the plane and then to the circle, or at
    once to the sphere; in the second the gradient at one point loses its part along (1, 1, 1), then the one along y."""
    time = 4 * frame["progress"].iloc[0] / STEPS
    right, up, _ = _view(frame["azimuth"].iloc[0], 22)

    def flat(points):
        return points @ np.stack([right, up], axis=1)

    for ax, (norm, rows) in zip(axes, frame.groupby("norm", sort=False)):
        colour = STYLES[norm].colour
        x, c, y, g, m, r = (rows[[f"{name}{i}" for i in range(3)]].to_numpy() for name in "xcygmr")
        seen = {"layer_norm": ("平面和圆", "plane and circle"), "rms_norm": ("球面", "sphere")}[norm]
        stage(ax, seen, ("三维空间里的点", "points in three dimensions"), (-3.4, 4.3), (-3.3, 3.3), "equal")
        _surface(ax, norm, flat)
        first, second = np.clip([time, time - 1], 0, 1)
        now = (x * (1 - first) + c * first) * (1 - second) + y * second
        if norm == "rms_norm":
            now = x * (1 - time / 2) + y * time / 2 if time < 2 else y
        ax.scatter(*flat(now).T, s=26, color=colour, zorder=4, linewidths=0, alpha=1.0 if time < 2 else 0.3)
        if time < 2:
            ax.scatter(*flat(x).T, s=10, facecolors="none", edgecolors=GREY, linewidths=0.8)
            _title_points(ax, norm)
        else:
            parts, lost = (m[0], r[0]), np.clip([time - 2, time - 3], 0, 1)
            left = _lose_shadows(ax, flat, y[0], g[0], parts, lost, colour)
            gone = sum(bool(share == 1 and np.linalg.norm(part) > 1e-6) for part, share in zip(parts, lost))
            _title_gradient(ax, norm, gone, np.linalg.norm(left) / np.linalg.norm(g[0]))


def _lose_shadows(ax, flat, point, gradient, parts, lost, colour):
    """Draws the gradient, its shadows on the two directions, what is lost of them dotted; returns what is left."""
    left, start = gradient - sum(part * share for part, share in zip(parts, lost)), flat(point)
    arrow(ax, start, flat(point + gradient), GREY, 1.2, linestyle="--", zorder=5)
    for part, share, shade in zip(parts, lost, (GREEN, colour)):
        if np.linalg.norm(part) > 1e-6:
            cut = point + part * (1 - share)
            ax.plot(*flat(np.array([point, cut])).T, color=shade, linewidth=5, alpha=0.8, zorder=5)
            ax.plot(*flat(np.array([cut, point + part])).T, color=shade, linewidth=2, linestyle=":", zorder=5)
            ax.plot(*flat(np.array([point + gradient, point + part])).T, color=GREY, linewidth=0.7, zorder=4)
    arrow(ax, start, flat(point + left), ink(), 2.6, zorder=7)
    ax.plot(*start, "o", color=colour, markeredgecolor=ink(), markersize=8, zorder=8)
    return left


def _title_points(ax, norm):
    zh, en = {"layer_norm": ("平面，再到圆", "the plane, then the circle"), "rms_norm": ("球面", "the sphere")}[norm]
    ax.set_title(text(f"{TERMS[norm][1]}：点落到{zh}上", f"{TERMS[norm][1]}: onto {en}"), fontsize=11.5)


def _title_gradient(ax, norm, gone, left):
    zh = f"{TERMS[norm][1]}：丢掉 {gone} 个影子，梯度剩 {left:.0%}"
    en = f"{TERMS[norm][1]}: {gone} shadow{'s' * (gone != 1)} lost, {left:.0%} is left"
    ax.set_title(text(zh, en), fontsize=11.5)
    note(
        ax, "dashed", 4.2, -3.25, text("虚线：原来的梯度", "dashed: the gradient before", "\n"), ha="right", va="bottom"
    )
