"""The drawings of chapter 06: block diagrams, gradient profiles, scaling laws, the warm-up map, steps and updates."""

import numpy as np

from ...canvas import (
    GREY,
    ORANGE,
    STYLES,
    band,
    curve,
    decades,
    finding,
    heat_map,
    level,
    number,
    setup,
    signed,
    spread,
    text,
    tone,
    window,
)
from ...i18n import TERMS, term
from ..curves import GRADIENT, LAYER, closed_form, each, per_placement, reach, recorded

DEPTH = ("层数", "depth (layers)")


def block_diagram(frame, axes):
    """One block as it was traced (rows with `operation`), each edge as thick as its variance is large; and the variance
    of the stream against the layer (rows with `layer`), where this block is marked."""
    placement, here = frame["placement"].iloc[0], int(frame["here"].iloc[0])
    steps, stream = frame[frame["operation"].notna()], frame[frame["layer"].notna()]
    _draw_block(steps.reset_index(drop=True), axes[0], STYLES[placement][0])
    axes[0].set_title(f"{term(placement, ' ')}\n{frame['formula'].iloc[0]}")
    ax = axes[1]
    limits = decades(stream[["variance", "theory"]], 1, (-8, 16))
    setup(ax, LAYER, ("方差", "variance"), (0, 40), limits, "log")
    x, middle, low, high = spread(stream, "layer", "variance")
    band(ax, "stream", x, low, high, placement)
    curve(ax, "stream", x, middle, placement=placement)
    closed_form(ax, "stream", stream, "layer", named=True)
    ax.axvline(here, color=GREY, linewidth=8, alpha=0.25)
    last = number(middle[-1])
    finding(ax, f"{len(x) - 1} 层之后方差是 {last}", f"variance after {len(x) - 1} layers: {last}")


def _draw_block(steps, ax, colour):
    """Boxes from bottom to top in the order of execution; what leads to or from f and has not met the skip again stands
    on the right."""
    last = len(steps) - 1
    f = int(steps.index[steps["operation"] == "f"][0])
    before, after = {f}, {f}
    for i in range(f, 0, -1):
        before |= set(steps["inputs"][i]) if i in before else set()
    for i in range(f + 1, last + 1):
        if len(steps["inputs"][i]) == 1 and steps["inputs"][i][0] in after:
            after.add(i)
    spot = {i: (int(i > 0 and (i in before or i in after)), 4 * i / last) for i in range(last + 1)}
    ax.set_axis_off()
    ax.set_xlim(-0.7, 1.7)
    ax.set_ylim(-0.8, 4.8)
    box = {"boxstyle": "round,pad=0.35", "facecolor": tone("paper"), "edgecolor": colour, "linewidth": 1.5}
    style = {"ha": "center", "va": "center", "fontsize": 11.5, "bbox": box, "zorder": 5}
    boxes = {}
    for i, (spot_of, variance) in enumerate(zip(spot.values(), steps["variance"])):
        words = steps["operation"][i].replace("norm", text("归一化", "norm", " "))
        words = words.replace("alpha", "α").replace("scale", "λ")
        boxes[i] = ax.text(*spot_of, f"{words}   {number(variance)}", **style)
    arrow = {"arrowstyle": "-|>", "color": colour, "shrinkA": 2, "shrinkB": 3}
    for i, variance in enumerate(steps["variance"]):
        arrow["linewidth"] = np.clip(1.2 + 2.2 * np.log10(1 + variance), 0.6, 9)
        arrow["mutation_scale"] = 10 + 3 * arrow["linewidth"]
        here = boxes[i].get_bbox_patch()
        for j in range(i + 1, last + 1):
            if i in steps["inputs"][j]:
                ends = {"patchA": here, "patchB": boxes[j].get_bbox_patch()}
                ax.annotate("", spot[j], spot[i], arrowprops=arrow | ends)
        if i == 0:
            ax.annotate("", spot[i], (spot[i][0], -0.75), arrowprops=arrow | {"patchB": here, "shrinkA": 0})
        if i == last:
            ax.annotate("", (spot[i][0], 4.75), spot[i], arrowprops=arrow | {"patchA": here, "shrinkB": 0})
    words = text("数字和线宽：方差", "numbers, line widths: variance", "\n")
    ax.text(1.7, -0.75, words, fontsize=9.5, ha="right", va="bottom")


def gradient_profiles(frame, ax):
    """Gradient norm of every block's weights at initialisation, per placement, over its closed form."""
    depth = int(frame["layer"].max())
    limits = decades(frame["weight_gradient_norm"], 1, (-8, 8))
    setup(ax, LAYER, ("权重的梯度范数", "gradient norm, weights"), reach(depth), limits, "log")
    lines = per_placement(frame.dropna(subset="weight_gradient_norm"), ax, "weight_gradient_norm")
    ranges = {placement: max(y) / min(y) if min(y) else np.inf for placement, (_, y) in lines.items()}
    best, worst = min(ranges, key=ranges.get), max(ranges, key=ranges.get)
    low, high = number(ranges[best]), number(ranges[worst])
    finding(
        ax,
        f"{depth} 层，最大梯度是最小的几倍：{TERMS[best][0]} {low}，{TERMS[worst][0]} {high}",
        f"{depth} layers: {TERMS[best][1]} keeps the gradient within {low} ×, {TERMS[worst][1]} within {high} ×",
    )


def last_layer(frame, axes):
    """Gradient of the last block's weights against the depth, with its slope in log-log; and the same times the σ of
    the final stream, where the placement ends in a norm."""
    left, right = axes
    scaled = frame.assign(scaled=frame["weight_gradient_norm"] * frame["sigma"]).drop(columns="theory")
    limits = decades(np.concatenate([frame["weight_gradient_norm"], scaled["scaled"]]), 1, (-4, 4))
    setup(left, DEPTH, ("末层权重的梯度范数", "gradient norm, last weights"), (2, 128), limits, "log", "log")
    setup(right, DEPTH, ("梯度 × 末层 σ", "gradient × σ of final stream"), (2, 128), limits, "log", "log")
    lines = per_placement(frame, left, "weight_gradient_norm", "depth")
    for line in per_placement(scaled[scaled["placement"] != "post_norm"], right, "scaled", "depth").values():
        product = signed(slope(*line), 2)
        finding(right, f"乘上 σ：斜率 {product}", f"times σ: slope {product}")
    for ax in axes:
        ax.set_xticks([2, 8, 32, 128], ["2", "8", "32", "128"])
        ax.minorticks_off()
    zh, en = each({placement: slope(*line) for placement, line in lines.items()}, lambda value: signed(value, 2))
    finding(left, f"斜率：{zh}", f"slope: {en}")


def slope(x, y, start=16):
    """Slope of log y against log x over x >= start."""
    keep = np.asarray(x) >= start
    return np.polyfit(np.log(np.asarray(x)[keep]), np.log(np.asarray(y)[keep]), 1)[0]


def identity_path(frame, ax):
    """Post-Norm: the whole gradient and what of it came through the skips alone, on the way back from the output."""
    depth = int(frame["layer"].max())
    back = ("距输出的层数", "layers back from the output")
    limits = decades([*frame["gradient_norm"], 0.3], 2, (-32, 12))  # below a gradient that has not shrunk there is room
    setup(ax, back, GRADIENT, reach(depth), limits, "log")
    level(ax, "one", 1.0, text("不变", "unchanged", " "))
    names = {"whole": ("全部梯度", "whole gradient"), "skips": ("只走跳跃连接", "skips only")}
    left = {}
    for (part, rows), colour, marker in zip(frame.groupby("part", sort=False), (ORANGE, GREY), "Ds"):
        rows = rows.assign(layer=depth - rows["layer"]).sort_values("layer", kind="stable")
        x, middle, low, high = spread(rows, "layer", "gradient_norm")
        band(ax, part, x, low, high, color=colour)
        curve(ax, part, x, middle, text(*names[part]), color=colour, marker=marker)
        closed_form(ax, part, rows, "layer", named=not left)
        left[part] = number(middle[-1] / middle[0])
    finding(
        ax,
        f"往回走 {depth} 层：全部梯度剩 {left['whole']}，只走跳跃连接的剩 {left['skips']}",
        f"{depth} layers back: {left['whole']} of the gradient is left, {left['skips']} by the skips alone",
    )


def token_similarity(frame, ax):
    """Mean cosine between the hidden states of different positions, branch by branch, per placement."""
    depth = frame["layer"].max()
    across = window(depth, (0, 6), (0, 12), (0, 24))
    setup(ax, LAYER, ("不同位置的余弦", "cosine between positions"), across, (-0.05, 1.1))
    level(ax, "same", 1.0, text("每个位置都一样", "all positions alike", " "), below=True)
    ends = {}
    for placement, rows in frame.groupby("placement", sort=False):
        groups = rows.groupby("layer")["cosine"]
        band(ax, placement, groups.mean().index, groups.min(), groups.max(), placement)
        curve(ax, placement, groups.mean().index, groups.mean(), term(placement, "\n"), placement)
        ends[placement] = groups.mean().iloc[-1]
    zh, en = each(ends, lambda cosine: signed(cosine, 2))
    finding(ax, f"{depth:g} 层之后，不同位置的余弦：{zh}", f"After {depth:g} layers the cosine is: {en}")


def warmup_map(frame, axes):
    """Final training loss for every warm-up and learning rate, one panel per placement; a recorded run."""
    for ax, (placement, rows) in zip(axes, frame.groupby("placement", sort=False)):
        losses = rows.pivot_table(index="learning_rate", columns="warmup", values="loss", aggfunc="mean", dropna=False)
        losses = losses.replace(np.inf, np.nan).sort_index(ascending=False)
        heat_map(ax, losses, 2.3, 3.1, beyond=(9.99, text("发散", "div.", " ")))
        ax.set_xlabel(text("预热步数", "warm-up steps", "  "))
        ax.set_ylabel(text("学习率", "learning rate", "  ") if placement == "post_norm" else "")
        done = int((losses < frame["threshold"].iloc[0]).to_numpy().sum())
        zh, en = TERMS[placement]
        finding(ax, f"{zh}：{losses.size} 格里 {done} 格学会", f"{en}: {done} of {losses.size} learn")
    axes[1].annotate(
        f"{recorded()} {frame['date'].iloc[0]}",
        (1, 0), (0, -46), xycoords="axes fraction", textcoords="offset points", ha="right", fontsize=9.5,
        color=tone("soft"),
    )  # fmt: skip


def amplification(frame, ax):
    """Relative change of the output per relative step of the weights, squared, against depth, with its exponent."""
    limits = decades(frame["amplification"], 1, (-4, 8))
    setup(ax, DEPTH, ("放大倍数", "amplification"), (4, 64), limits, "log", "log")
    ax.set_xticks([4, 8, 16, 32, 64], ["4", "8", "16", "32", "64"])
    ax.minorticks_off()
    lines = per_placement(frame, ax, "amplification", "depth")
    zh, en = each({placement: slope(*line, 4) for placement, line in lines.items()}, lambda value: signed(value, 1))
    finding(ax, f"随层数增长的指数：{zh}", f"Exponent of the growth with depth: {en}")


def update_sizes(frame, axes):
    """Root mean square of gradient and update per layer, of one real optimiser step."""
    names = [("gradient", ("梯度", "gradient")), ("update", ("更新量 ÷ 学习率", "update ÷ learning rate"))]
    for ax, (column, name) in zip(axes, names):
        values = [frame[column], [1.0 if column == "update" else frame[column].median()]]
        limits = decades(np.concatenate(values), 1, (-40, 8))
        setup(ax, LAYER, name, reach(frame["layer"].max()), limits, "log")
        placement = frame["placement"].iloc[0]
        x, middle, low, high = spread(frame, "layer", column)
        band(ax, column, x, low, high, placement)
        curve(ax, column, x, middle, placement=placement)
        if column == "update":
            level(ax, "one", 1.0, text("学习率", "learning rate", " "))
        elif frame["optimiser"].iloc[0] == "Adam":
            level(ax, "eps", 1e-8, "Adam: eps = 10⁻⁸", below=True)
        typical = number(np.median(middle))
        zh, en = name
        finding(ax, f"{zh}，各层的中位数：{typical}", f"{en}, median layer: {typical}")
