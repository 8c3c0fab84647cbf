"""The drawings of chapter 04: what BatchNorm's statistics are made of, and what that does to a Transformer."""

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex, to_rgb

from ...canvas import (
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    STYLES,
    VERMILLION,
    band,
    curve,
    finding,
    legible,
    note,
    number,
    setup,
    signed,
    text,
    theory,
    tone,
    window,
)
from ...i18n import term
from ..curves import LOSS, recorded


def company(frame, axes):
    """Sentences as rows of characters, coloured by what a norm makes of one feature, a panel per norm; padding hatched.

    Columns: norm, sentence, position, character, real, value, change (of the first sentence, beside an unpadded batch).
    """
    for ax, (norm, rows) in zip(axes, frame.groupby("norm", sort=False)):
        sentences, longest = rows["sentence"].max() + 1, rows["position"].max() + 1
        ax.set(xlim=(-0.2, 24.2), ylim=(sentences + 0.1, -0.1))
        ax.set_axis_off()
        real = rows[rows["real"]]
        shades = _shades(real["value"])
        for cells, style in (
            (real, {"facecolors": shades, "edgecolors": GREY}),
            (rows[~rows["real"]], {"facecolors": "none", "edgecolors": GREY, "hatch": "////"}),
        ):
            corners = cells[["position", "sentence"]].to_numpy()
            ax.add_collection(PolyCollection([_square(*corner) for corner in corners], linewidths=0.5, **style))
        for cell, shade in zip(real.itertuples(), shades):
            word = "␣" if cell.character == " " else cell.character
            place = cell.position + 0.5, cell.sentence + 0.54
            _letter(ax, *place, word, shade)
        change, name = rows["change"].iloc[0], term(norm)
        padding = 1 - len(real) / (sentences * longest)
        zh = f"{name}：填充占 {padding:.0%}，第一句的结果改变 {change:.0%}"
        en = f"{name}: {padding:.0%} padding, the first sentence changes by {change:.0%}"
        finding(ax, zh, en)


def _square(across, down):
    return [(across + x, down + y) for x, y in ((0.04, 0.06), (0.96, 0.06), (0.96, 0.94), (0.04, 0.94))]


def _shades(values):
    """Blue below zero, orange above, and the more of the paper the nearer to zero."""
    values = np.asarray(values, float)[:, None]
    strength, paper = np.clip(np.abs(values) / 2, 0, 1) * 0.75, np.array(to_rgb(tone("paper")))
    return np.round(255 * (paper + strength * (np.where(values > 0, to_rgb(ORANGE), to_rgb(SKY)) - paper))) / 255


def _letter(ax, across, down, word, ground):
    mark = ax.text(across, down, word, ha="center", va="center", fontsize=9.5)
    mark._normcourse_ground = to_hex(ground)


def statistics_noise(frame, ax):
    """Noise of BatchNorm's mean against the number of sentences, in standard deviations of the feature; log scales.

    Columns: batch_size, noise, theory (sentences as they are), independent (as if characters were independent), length.
    """
    length, sizes = frame["length"].iloc[0], frame["batch_size"].to_numpy()
    setup(ax, ("批里的句子数 B", "sentences in the batch, B"), ("均值的噪声（σ）", "noise of the mean (σ)"), *_NOISE)
    curve(ax, "noise", sizes, frame["noise"], text("量到的", "measured"), "batch_norm")
    theory(ax, "sentences", sizes, frame["theory"].to_numpy(), "s / √B", at=4)
    theory(ax, "independent", sizes, frame["independent"].to_numpy(), "1 / √(BT)", at=24)
    effective = 1 / (frame["theory"].iloc[0] ** 2)
    zh = f"一句 {length} 个字符，只抵得上 {number(effective)} 个互相独立的"
    en = f"A sentence of {length} characters counts as {number(effective)} independent ones"
    finding(ax, zh, en)


_NOISE = ((0.85, 300), (3e-3, 2.5), "log", "log")


def padding_share(frame, ax):
    """How far padding moves the output of the real characters, per batch, against the share of padding, over theory.

    Columns: share, change, kind ("counted" or "masked"), here (mean share), and rows of kind "theory": share, change.
    """
    measured, law = frame[frame["kind"] != "theory"], frame[frame["kind"] == "theory"]
    share, change = ("填充占的比例", "share of padding"), ("真字符的输出变了多少", "change of the real outputs")
    setup(ax, share, change, (0, 1), (-0.12, 1.6))
    for kind, colour, marker, height, words in (
        ("counted", STYLES["batch_norm"].colour, "D", 1.5, ("填充算在内", "padding counted")),
        ("masked", PURPLE, "o", 1.3, ("只算真字符", "real ones only")),
    ):
        rows = measured[measured["kind"] == kind].sort_values("share")
        style = {"color": colour, "marker": marker, "linestyle": "", "alpha": 0.7, "markevery": 1}
        curve(ax, kind, rows["share"], rows["change"], None, **style)
        note(ax, kind, 0.03, height, text(*words, " "), legible(colour), va="top")  # where no points ever are
    theory(
        ax, "law", law["share"].to_numpy(), law["change"].to_numpy(), text("全方差公式", "total variance", " "), at=0.75
    )
    counted = measured[measured["kind"] == "counted"]
    zh = f"填充平均占 {counted['share'].mean():.0%}，真字符的输出平均改变 {counted['change'].mean():.0%}"
    en = f"{counted['share'].mean():.0%} padding on average changes the real outputs by {counted['change'].mean():.0%}"
    finding(ax, zh, en)


def sharing(frame, ax):
    """Two samples as grids of positions × features: which elements have a say in one output.

    Columns: batch, position, feature, influence, chosen, way.
    """
    positions, features = frame["position"].max() + 1, frame["feature"].max() + 1
    ax.set(xlim=(-1.2, 2 * features + 2.2), ylim=(positions + 0.9, -1.0), aspect="equal")
    ax.set_axis_off()
    share = frame[frame["influence"] > 0]
    for rows, colour, mark in (
        (frame[(frame["influence"] == 0) & ~frame["chosen"]], "none", ""),
        (share[~share["chosen"]], SKY, "•"),
        (frame[frame["chosen"]], VERMILLION, "y"),
    ):
        corners = np.column_stack([rows["batch"] * (features + 2) + rows["feature"], rows["position"]])
        ax.add_collection(PolyCollection([_square(*c) for c in corners], facecolors=colour, edgecolors=GREY))
        for across, down in corners if mark else ():
            _letter(ax, across + 0.5, down + 0.54, mark, colour)
    for batch in range(2):
        words = text(f"样本 {batch + 1}", f"sample {batch + 1}", " ")
        note(ax, f"sample {batch}", batch * (features + 2) + features / 2, -0.45, words, ha="center")
    note(ax, "feature", features / 2, positions + 0.55, text("特征", "feature", " ") + " →", ha="center", va="center")
    note(
        ax, "position", -0.35, positions / 2, "← " + text("位置", "position", " "), rotation=90, ha="right", va="center"
    )
    kinds, where = share["feature"].nunique(), share["position"].nunique()
    zh = f"和 y 共用统计量的：{kinds} 个特征、{where} 个位置上的 {len(share)} 个数"
    en = f"y shares its statistics with {len(share)} numbers: {kinds} features at {where} positions"
    finding(ax, zh, en)


WAYS = {
    "batch": ("本批的统计量", "statistics of the batch", STYLES["batch_norm"].colour, "D"),
    "running": ("滑动平均", "running averages", PURPLE, "s"),
    "layer_norm": ("层归一化", "LayerNorm", BLUE, "o"),
}


def train_and_eval(frame, ax):
    """Loss on held-out text against the number of excerpts per batch, for BatchNorm either way and for LayerNorm.

    Columns: way, batch_size, loss, low, high, length.
    """
    limits = window(frame[["low", "high"]], (2.1, 3.4), (2.0, 7.2))
    setup(ax, ("一批里的片段数", "excerpts in a batch"), LOSS, (0.85, 75), limits, "linear", "log")
    losses = {}
    for way, rows in frame.groupby("way", sort=False):
        zh, en, colour, marker = WAYS[way]
        band(ax, way, rows["batch_size"], rows["low"], rows["high"], color=colour)
        curve(ax, way, rows["batch_size"], rows["loss"], text(zh, en), color=colour, marker=marker, markevery=1)
        losses[way] = rows["loss"].iloc[0]
    cost = losses["batch"] - losses["running"]
    length = frame["length"].iloc[0]
    cost = signed(cost, 2, "+")
    zh = f"单独一段 {length} 个字符：用自己的统计量，损失多 {cost} nat"
    en = f"One excerpt of {length} characters: its own statistics cost {cost} nats"
    finding(ax, zh, en)


def norm_quality(frame, ax):
    """Recorded held-out losses against the learning rate: mean and range of the seeds per kind.

    Columns: kind, learning_rate, seed, value, date.
    """
    rate, loss = ("学习率", "learning rate"), ("验证损失（nat）", "held-out loss (nats)")
    setup(ax, rate, loss, (8e-4, 4e-2), (2.2, 3.4), "linear", "log")
    best = {}
    for kind, rows in frame.groupby("kind", sort=False):
        words, style = _KINDS[kind]
        by_rate = rows.groupby("learning_rate")["value"]
        band(ax, kind, by_rate.mean().index, by_rate.min(), by_rate.max(), color=style["color"])
        label = text(*words) if isinstance(words, tuple) else term(words)
        curve(ax, kind, by_rate.mean().index, by_rate.mean(), label, **style, markevery=1)
        best[kind] = by_rate.mean().min()
    note(ax, "recorded", 8.6e-4, 3.38, f"{recorded()} {frame['date'].iloc[0]}", GREY, va="top")
    gap = best["batch_norm"] - best["layer_norm"]
    zh = f"各取最好的学习率：批归一化比层归一化{'高' if gap > 0 else '低'} {abs(gap):.2f} nat"
    en = f"Each at its best rate, BatchNorm is {abs(gap):.2f} nats {'above' if gap > 0 else 'below'} LayerNorm"
    finding(ax, zh, en)


_KINDS = {
    "layer_norm": ("layer_norm", {"color": BLUE, "marker": "o"}),
    "batch_norm": (("批归一化，滑动平均", "BatchNorm, running"), {"color": PURPLE, "marker": "s"}),
    "alone": (("批归一化，单独一段", "BatchNorm, alone"), {"color": STYLES["batch_norm"].colour, "marker": "D"}),
}
