"""The drawings of chapter 09: numbers of few bits, and what they do to statistics, scales and gradients."""

import numpy as np
from matplotlib.collections import LineCollection

from ...canvas import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    curve,
    finding,
    level,
    note,
    number,
    setup,
    text,
    theory,
)

_COLOURS = {"fp16": BLUE, "bf16": ORANGE, "fp8 e4m3": GREEN, "fp8 e5m2": PURPLE, "int8": SKY, "int4": VERMILLION}
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_DENSE = 150  # so many ticks are a band


def number_line(frame, axes):
    """Where the numbers of each format are: over all magnitudes, and one by one around a value.

    Columns: format, number (one row for each in the window), and, the same in all rows of a format: value, low, high
    (the window), smallest, largest (of the format), nearest (what the value becomes).
    """
    above, below = axes
    value, low, high = (frame[name].iloc[0] for name in ("value", "low", "high"))
    formats = [*frame["format"].unique()]
    setup(above, ("大小", "magnitude"), ("", ""), (1e-10, 1e7), (len(formats) - 0.4, -0.6), xscale="log")
    setup(below, ("取值", "value"), ("", ""), (low, high), (len(formats) - 0.4, -0.6))
    for ax in axes:
        ax.set_yticks(range(len(formats)), formats)
        ax.grid(axis="y", visible=False)
        ax.axvline(value, color=GREY, linewidth=1.2)
    words = []
    for place, (name, rows) in enumerate(frame.groupby("format", sort=False)):
        colour, nearest = _COLOURS[name], rows["nearest"].iloc[0]
        smallest, largest = max(rows["smallest"].iloc[0], 1e-10), min(rows["largest"].iloc[0], 1e7)
        above.barh(place, largest - smallest, 0.5, left=smallest, color=colour, alpha=0.75)
        here = rows["number"].dropna().to_numpy()
        if len(here) > _DENSE:
            below.barh(place, here[-1] - here[0], 0.6, left=here[0], color=colour, alpha=0.6)
        else:
            ticks = [[(x, place - 0.3), (x, place + 0.3)] for x in here]
            below.add_collection(LineCollection(ticks, colors=colour, linewidths=1.6))
        if low <= nearest <= high:
            below.plot([value, nearest], [place, place], color=colour, linewidth=1.6)
            below.plot(nearest, place, "o", color=colour, markersize=6, zorder=4)
        else:
            off = "∞" if np.isinf(nearest) else number(nearest)
            note(below, name, high - 0.01 * (high - low), place, f"→ {off}", colour, ha="right", va="center")
        if name in ("fp16", "bf16"):
            words.append(f"{name} {_stored(value, nearest)}")
    finding(above, f"{value:.5g} 存成：{'，'.join(words)}", f"{value:.5g} is stored as: {', '.join(words)}")


def _stored(value, nearest):
    if np.isinf(nearest) or nearest == 0:
        return "∞" if nearest else "0"
    return f"{nearest:.5g} ({100 * abs(nearest / value - 1):.2g}%)"


_METHODS = {
    "textbook": (VERMILLION, "s", "E[x²] − E[x]²"),
    "two_pass": (BLUE, "o", "两遍|two passes"),
    "pairwise": (GREEN, "D", "两两相加|pairwise"),
    "welford": (ORANGE, "^", "Welford"),
    "in_fp32": (PURPLE, "v", "fp32"),
}


def variance_errors(frame, ax):
    """Relative error of each method's variance over mean/std; dashed: the most that the chosen method can be wrong by.

    Columns: ratio, method, error, bound; dtype, shown (the method with its bound), here (a ratio).
    """
    dtype, shown, here = (frame[name].iloc[0] for name in ("dtype", "shown", "here"))
    across, up = ("均值 / 标准差", "mean / standard deviation"), ("方差的相对误差", "relative error of the variance")
    ylim = (1e-8, 1e2) if dtype == "fp32" else (1e-5, 1e4)
    setup(ax, across, up, (1, frame["ratio"].max()), ylim, "log", "log")
    at = {}
    for method, rows in frame.groupby("method", sort=False):
        colour, marker, label = _METHODS[method]
        style = {"color": colour, "marker": marker, "alpha": 1.0 if method == shown else 0.55, "markevery": 1}
        curve(ax, method, rows["ratio"], rows["error"], text(*label.split("|")) if "|" in label else label, **style)
        at[method] = rows.iloc[(rows["ratio"] - here).abs().argmin()]
        if method == shown:
            theory(ax, "bound", rows["ratio"].to_numpy(), rows["bound"].to_numpy(), text("上界", "bound", " "), at=6)
    one = at[shown]
    ax.axvline(one["ratio"], color=GREY, linewidth=1.2)
    level(ax, "all wrong", 1.0)
    name = _METHODS[shown][2].split("|")
    error, bound, ratio = number(one["error"]), number(one["bound"]), f"{one['ratio']:g}"
    finding(
        ax,
        f"{dtype}，均值是标准差的 {ratio} 倍：{name[0]} 差 {error}，不超过 {bound}",
        f"{dtype}, mean = {ratio} std: {name[-1]} off by {error}, at most {bound}",
    )


def sizes(frame, ax):
    """Output of an RMSNorm computed in one dtype throughout, over the size of its input, and the closed form.

    Columns: size, output, theory; dtype, eps, stored (what the dtype makes of ε).
    """
    dtype, eps, stored = (frame[name].iloc[0] for name in ("dtype", "eps", "stored"))
    across, up = ("输入的大小", "size of the input"), ("输出的均方根", "rms of the output")
    setup(ax, across, up, (1e-8, 6e4), (1e-4, 1e2), "log", "log")
    curve(ax, dtype, frame["size"], frame["output"], color=_COLOURS.get(dtype, GREY), markevery=4)
    at = max(eps**0.5 / 30, 3e-6)
    theory(ax, "exact", frame["size"].to_numpy(), frame["theory"].to_numpy(), "s / √(s² + ε)", at=at)
    silent = frame[(frame["output"] == 0) & (frame["size"] > 1)]["size"]
    lost = frame[~np.isfinite(frame["output"])]["size"]
    known = number(stored) if stored else "0"
    zh, en = [f"{dtype}：ε = {number(eps)} 变成 {known}"], [f"{dtype}: ε = {number(eps)} becomes {known}"]
    if len(silent):
        zh, en = [*zh, f"{silent.min():.0f} 起输出 0"], [*en, f"0 from {silent.min():.0f} on"]
    if len(lost):
        zh, en = [*zh, f"{number(lost.max())} 以下 ∞ 或 nan"], [*en, f"∞ or nan up to {number(lost.max())}"]
    finding(ax, "，".join(zh), ", ".join(en))


def outliers(frame, axes):
    """Left: error of the ordinary channels over the size of the outlier, per kind of scale, and its closed form.
    Right: some tokens and channels as they come out, at the chosen size.

    Columns: panel; where it is "errors": outlier, scale, error, theory, here, shown, bits; where it is "cells": token,
    channel, value.
    """
    left, right = axes
    errors, cells = (frame[frame["panel"] == name] for name in ("errors", "cells"))
    here, shown, bits = (errors[name].iloc[0] for name in ("here", "shown", "bits"))
    bits = int(bits)  # a column of two panels is one of floats
    across, up = ("离群通道是别的几倍", "outlier over the others"), ("其余通道的误差", "error of the others")
    setup(left, across, up, (1, 256), (1e-3, 3), "log", "log")
    looks = {"per_tensor": (VERMILLION, "s"), "per_token": (ORANGE, "^"), "per_channel": (BLUE, "o")}
    looks["fp8"] = (GREEN, "D")
    names = {
        "per_tensor": ("整个张量", "tensor"),
        "per_token": ("每个词元", "token"),
        "per_channel": ("每个通道", "channel"),
    }
    for scale, rows in errors.groupby("scale", sort=False):
        colour, marker = looks[scale]
        style = {"color": colour, "marker": marker, "markevery": 1}
        curve(left, scale, rows["outlier"], rows["error"], text(*names.get(scale, (scale, scale))), **style)
        if scale == "per_tensor":
            name = text("闭式解", "closed form", " ")
            theory(
                left, "exact", rows["outlier"].to_numpy(), rows["theory"].to_numpy(), name, at=32 if bits == 8 else 4
            )
    left.axvline(here, color=GREY, linewidth=1.2)
    at = errors[(errors["outlier"] == here) & (errors["scale"] == shown)]["error"].iloc[0]
    finding(left, f"int{bits}，{here:g} 倍：误差 {100 * at:.2g}%", f"int{bits}, {here:g}×: off by {100 * at:.2g}%")
    picture = cells.pivot(index="token", columns="channel", values="value").to_numpy()
    right.imshow(np.clip(picture, -3, 3), cmap="RdBu_r", vmin=-3, vmax=3, aspect="auto")
    right.set(xlabel=text("通道", "channel", "  "), ylabel=text("词元", "token", "  "))
    right.grid(visible=False)
    ordinary = np.delete(picture, 3, axis=1)
    zero, different = 100 * (ordinary == 0).mean(), len(np.unique(ordinary.round(6)))
    finding(
        right, f"其余通道：{zero:.0f}% 是 0，共 {different} 种值", f"the others: {zero:.0f}% are 0, {different} values"
    )


def gradient_sizes(frame, ax):
    """How the sizes of gradients lie between what fp16 rounds to 0 and what it cannot hold.

    Columns: exponent (of 2), share; lost, over (shares, of fp16); loss_scale, tokens (exponents of 2).
    """
    scale, tokens, lost, over = (frame[name].iloc[0] for name in ("loss_scale", "tokens", "lost", "over"))
    setup(ax, ("log₂ |梯度|", "log₂ |gradient|"), ("占比", "share"), (-50, 24), (0, 0.32))
    ax.bar(frame["exponent"], frame["share"], 0.9, align="edge", color=BLUE, alpha=0.75)
    for low, high, colour in ((-50, -25, VERMILLION), (16, 24, VERMILLION), (-25, -14, ORANGE)):
        ax.axvspan(low, high, color=colour, alpha=0.13, linewidth=0)
    for name, x, zh, en in (
        ("zero", -37.5, "变成 0", "become 0"),
        ("over", 20, "∞", "∞"),
        ("few", -19.5, "次正规数", "subnormal"),
    ):
        note(ax, name, x, 0.29, text(zh, en), GREY, ha="center", va="center")
    tokens, scale = (str(power).translate(_RAISED) for power in (tokens, scale))
    finding(
        ax,
        f"2{tokens} 个词元，损失乘以 2{scale}：{100 * lost:.2g}% 变成 0，{100 * over:.2g}% 溢出",
        f"2{tokens} tokens, loss × 2{scale}: {100 * lost:.2g}% become 0, {100 * over:.2g}% overflow",
    )


def decay(frame, ax):
    """Root mean square of each character's numbers over the steps; one of them marked, with its closed form.

    Columns: step, size, character, theory; shown (a character), here (a step), limit (below it fp16's squares are 0).
    """
    shown, here, limit = (frame[name].iloc[0] for name in ("shown", "here", "limit"))
    last = frame["step"].max()
    size = ("词向量的均方根", "rms of the embedding")
    setup(ax, ("训练步数", "training step"), size, (0, last), (3e-5, 1), "log")
    for character, rows in frame.groupby("character", sort=False):
        chosen = character == shown
        style = {"color": VERMILLION if chosen else GREY, "alpha": 1.0 if chosen else 0.3, "marker": ""}
        curve(ax, character, rows["step"], rows["size"], repr(character) if chosen else None, **style)
        if chosen:
            theory(ax, "decay", rows["step"].to_numpy(), rows["theory"].to_numpy(), "(1 − ηλ)ᵗ", at=last * 0.55)
            now = rows.iloc[(rows["step"] - here).abs().argmin()]["size"]
    level(ax, "limit", limit, text("再小，平方在 fp16 里就是 0", "below, its square is 0 in fp16"), below=True)
    ax.axvline(here, color=GREY, linewidth=1.2)
    square = number(float(np.float16(now**2)))
    finding(
        ax,
        f"第 {here} 步，{shown!r} 的均方根 {number(now)}，平方在 fp16 里是 {square}",
        f"Step {here}: {shown!r} has rms {number(now)}, its square in fp16 is {square}",
    )
