"""The drawings of chapter 07: how the stream grows, how much a layer changes it, and what a layer is worth."""

import numpy as np

from ...canvas import (
    GREY,
    STYLES,
    band,
    curve,
    decades,
    finding,
    level,
    note,
    setup,
    signed,
    spread,
    text,
    tone,
    window,
)
from ...i18n import TERMS
from ..curves import LAYER, LOSS, against_the_whole, each, per_placement, reach, recorded

RELATIVE = ("相对改变量", "relative update")
DIFFERENCE = ("相对差异", "relative difference")
ANGLES = {
    "cosine": ("与上一层：", "one layer back:"),
    "cosine_to_input": ("与输入：", "to the input:"),
}
EDITS = {
    "drop": ("去掉第 {0} 层", "without layer {0}", "去掉的是第几层", "layer left out"),
    "swap": (
        "交换第 {0}、{1} 层",
        "with layers {0}, {1} swapped",
        "交换第 l 层和第 l + 1 层",
        "l: layers l and l + 1 swapped",
    ),
    "merge": (
        "并联第 {0}、{1} 层",
        "with layers {0}, {1} merged",
        "并联第 l 层和第 l + 1 层",
        "l: layers l and l + 1 merged",
    ),
}


def stream_variance(frame, ax):
    """Variance of the hidden state at each layer over its closed form, on the axis that column `axis` names."""
    depth, log = frame["layer"].max(), frame["axis"].iloc[0] == "log"
    if log:
        limits = decades(frame["variance"], 1, (-4, 16))
    else:
        limits = window(frame["variance"], *((0, top) for top in (2, 5, 12, 30, 45, 70, 120)))
    setup(ax, LAYER, ("方差", "variance"), reach(depth), limits, "log" if log else "linear")
    per_placement(frame, ax, "variance", named=depth >= 10)
    last = frame[frame["layer"] == depth].groupby("placement", sort=False)["variance"].mean()
    zh, en = each(last)
    finding(ax, f"第 {depth} 层的方差：{zh}", f"Variance at layer {depth}: {en}")


def layer_updates(frame, axes):
    """Two panels: relative update of every layer, and the angle that column `angle` names, over their closed forms."""
    (left, right), frame = axes, frame.reset_index(drop=True)
    depth, angle = frame["layer"].max(), frame["angle"].iloc[0]
    across = window(depth, (1, 10), (1, 30), (1, 100))
    setup(left, LAYER, RELATIVE, across, decades(frame["relative_update"], 1, (-3, 1)), "log", "log")
    per_placement(frame.assign(theory=frame["theory_update"]), left, "relative_update", named=depth >= 20)
    setup(right, LAYER, ("夹角（度）", "angle (degrees)"), across, (0, 100), xscale="log")
    degrees = np.degrees(np.arccos(frame[[angle, f"theory_{angle}"]].clip(-1, 1)))
    turned = frame.assign(degrees=degrees[angle], theory=degrees[f"theory_{angle}"])
    per_placement(turned, right, "degrees", named=False)
    _per_cent_ticks(left)
    _plain_ticks(left, right)
    last = turned[turned["layer"] == depth].groupby("placement", sort=False)[["relative_update", "degrees"]].mean()
    _both_values(
        left, f"第 {depth} 层：", f"layer {depth}:", {p: _per_cent(v) for p, v in last["relative_update"].items()}
    )
    _both_values(right, *ANGLES[angle], {p: f"{v:.0f}°" for p, v in last["degrees"].items()})


def merged_layers(frame, axes):
    """Two panels: what each branch misses when it runs beside the one before it, and what that does to the output."""
    left, right = axes
    stale, merged = frame[frame["what"] == "stale"], frame[frame["what"] == "merged"]
    depth = stale["layer"].max()
    across, limits = window(depth, (1, 10), (1, 30), (1, 100)), decades(frame["difference"], 1, (-3, 1))
    setup(left, LAYER, DIFFERENCE, across, limits, "log", "log")
    per_placement(stale, left, "difference", named=depth >= 20)
    setup(right, ("从第几层起并联", "merged from layer"), ("", ""), across, limits, "log", "log")
    per_placement(merged, right, "difference", named=False)
    _per_cent_ticks(left, right)
    _plain_ticks(left, right)
    last, whole = (
        rows.groupby("placement", sort=False)["difference"].mean()
        for rows in (stale[stale["layer"] == depth], merged[merged["layer"] == 1])
    )
    _both_values(left, f"第 {depth} 层的分支：", f"branch {depth}:", {p: _per_cent(v) for p, v in last.items()})
    _both_values(right, "全部并联：", "all merged:", {p: _per_cent(v) for p, v in whole.items()})


def _both_values(ax, zh, en, values):
    """A title of one line per language: what, and its value for each placement."""
    said = each(values, str)
    finding(ax, zh + said[0], f"{en} {said[1]}")


def _per_cent(share):
    return "0" if share == 0 else "<0.01%" if share < 1e-4 else f"{100 * share:.{0 if share >= 0.1 else 1}f}%"


def _per_cent_ticks(*panels):
    for ax in panels:
        low, high = ax.get_ylim()
        ticks = {0.001: "0.1%", 0.01: "1%", 0.1: "10%", 1: "100%", 10: "1000%"}
        ticks = {value: words for value, words in ticks.items() if low <= value <= high}
        ax.set_yticks([*ticks], [*ticks.values()])


def _plain_ticks(*panels):
    for ax in panels:
        ticks = [tick for tick in (1, 3, 10, 30, 100) if tick <= ax.get_xlim()[1]]
        ax.set_xticks(ticks, [str(tick) for tick in ticks])


def edited_layers(frame, ax):
    """Loss of trained networks with a layer dropped, or two swapped or merged; the layer in column `here` is marked."""
    here, edit = int(frame["here"].iloc[0]), frame["edit"].iloc[0]
    zh, en, *axis = EDITS[edit]
    layers = frame["depth"].iloc[0]
    setup(ax, axis, LOSS, (0.5, layers + 0.5), window(frame["loss"], (2.3, 2.8), (2.3, 3.3), (2, 5)))
    last = frame["layer"].max()
    here = min(here, last)
    added = each(against_the_whole(frame, ax, here), lambda value: signed(value, 2, "+"))
    zh, en = zh.format(here, here + 1), en.format(here, here + 1)
    finding(ax, f"{zh}，损失：{added[0]}", f"the loss changes {en} by: {added[1]}")


def read_layers(frame, ax):
    """Loss of the model's own head at every layer, with the final norm in front of it and without."""
    here = int(frame["here"].iloc[0])
    setup(ax, ("读出的是第几层", "layer read out"), LOSS, (0, frame["layer"].max()), (2, 12), "log")
    ax.set_yticks([2, 3, 4, 6, 8, 12], ["2", "3", "4", "6", "8", "12"])
    ax.minorticks_off()
    level(ax, "unigram", frame["unigram"].iloc[0], text("只用字符频率", "character frequencies only", " "))
    lines = {
        ("pre_norm", True): (*TERMS["pre_norm"], "-", "v"),
        ("pre_norm", False): ("不过归一化", "without its norm", ":", "^"),
        ("post_norm", True): (*TERMS["post_norm"], "-", "D"),
    }
    values = {}
    for (placement, normalised), (zh, en, dash, marker) in lines.items():
        rows = frame[(frame["placement"] == placement) & (frame["normalised"] == normalised)]
        x, middle, low, high = spread(rows, "layer", "loss")
        name, style = f"{placement} {normalised}", {"marker": marker, "linestyle": dash}
        band(ax, name, x, low, high, placement)
        curve(ax, name, x, middle, text(zh, en.replace(" its", "\nits")), placement, markevery=1, **style)
        values[zh, en] = f"{middle[here]:.2f}"
    ax.axvline(here, color=GREY, linewidth=8, alpha=0.25)
    parts = [
        "，".join(f"{zh} {v}" for (zh, _), v in values.items()),
        ", ".join(f"{en} {v}" for (_, en), v in values.items()),
    ]
    finding(ax, f"从第 {here} 层读出，损失：{parts[0]}", f"Layer {here} read out, loss: {parts[1]}")


def rewired_curves(frame, ax):
    """Loss after 0, 10, 50 and 200 further steps of a network whose wiring was changed, beside two others; recorded."""
    setup(ax, ("改接法之后的训练步数", "steps after the change"), LOSS, (0, 200), (2.0, 4.8))
    steps = [0, 10, 50, 175]
    names = {
        "switched": ("改了接法", "wiring changed"),
        "kept": ("没改", "unchanged"),
        "scratch": ("从头训练", "from scratch"),
    }
    middles = {}
    for kind, style in zip(names, ("-", "--", ":")):
        rows = frame[frame["kind"] == kind]
        values = rows[["before", "loss_10", "loss_50", "loss_200"]]
        placement = rows["placement"].iloc[0]
        middles[kind] = values.mean().to_numpy()
        colour = GREY if kind == "scratch" else STYLES[placement][0]
        band(ax, kind, steps, values.min(), values.max(), color=colour)
        style = {"linestyle": style, "color": colour, "markevery": 1}
        curve(ax, kind, steps, middles[kind], text(*names[kind]), placement, **style)
    note(ax, "recorded", 199, 4.65, f"{recorded()} {frame['date'].iloc[0]}", tone("soft"), ha="right")
    before, changed, soon = middles["kept"][0], *middles["switched"][[0, 2]]
    scratch = middles["scratch"][2]
    finding(
        ax,
        f"改接法：损失 {before:.2f} → {changed:.2f}，50 步后 {soon:.2f}（从头训练 {scratch:.2f}）",
        f"Rewired: loss {before:.2f} → {changed:.2f}, after 50 steps {soon:.2f} (from scratch {scratch:.2f})",
    )
