"""The figures of chapter 13. Frames are rows of a docket's tables, see `normcourse.claims.Docket`: `kind` says whether
a row is a claim or one of its settings. Nothing here knows a verdict: it is in the frame, drawn by the rule."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.patches import Patch

from ... import canvas
from ...canvas import BLUE, GREEN, GREY, VERMILLION, VIOLET, note, powers, text
from ...i18n import TERMS, language, term
from ..scenes import DASHES, SIDES, boxes, ink, stage

DISAGREEMENTS = Path(__file__).with_name("disagreements.toml")
KINDS = {"holds": GREEN, "holds_only": BLUE, "false": VERMILLION, "not_settled": GREY, "not_measurable": VIOLET}
ROW = 6  # claims beside each other in a bowl
BOUND, REACH = 58.0, 22.0  # where on the bench the bound of a rule is, and how far it is drawn on both sides
FARTHEST = 30.0  # half-intervals from the bound: what is farther stands at the edge


def hearing(frame, axes):
    """The claim that is heard on the bench, and below it the bowls with those whose verdict has been reached."""
    top, bottom = axes
    claims = frame[frame["kind"] == "claim"]
    bench(frame[frame["kind"] == "setting"], top, claims.iloc[-1])
    counts = claims["verdict"].value_counts()
    stage(bottom, ("判决", "verdict"), ("每个圆是一条说法", "every disc is a claim"), (0, 5), (-0.9, 7.6))
    deepest = max(5, -(-counts.max() // ROW))
    for column, (kind, colour) in enumerate(KINDS.items()):
        left, right, low, high = column + 0.04, column + 0.96, -0.55, deepest - 0.3
        bottom.plot([left, left, right, right], [high, low, low, high], color=colour, linewidth=2.5, zorder=1.2)
        ids = claims.loc[claims["verdict"] == kind, "id"].tolist()
        for place, name in enumerate(ids):
            x, y = column + 0.12 + (place % ROW) * 0.152, place // ROW
            last = name == claims["id"].iloc[-1]
            style = {
                "markersize": 18,
                "markeredgecolor": ink() if last else colour,
                "markeredgewidth": 2 if last else 1,
            }
            bottom.plot(x, y, "o", color=(colour, 0.3), **style, zorder=1.3)
            note(bottom, name, x, y, name, ha="center", va="center", fontsize=7.5)
        words = text(*TERMS[kind], between=" ")
        note(bottom, kind, column + 0.5, high + 0.25, f"{words}: {len(ids)}", ha="center", fontsize=8.5)
    bottom.set_ylim(-0.9, deepest + 0.6)
    total, kinds = len(claims), [counts.get(kind, 0) for kind in ("holds", "holds_only", "false")]
    top.set_title(
        text(
            f"听过 {total} 条：{kinds[0]} 条成立，{kinds[1]} 条有条件地成立，{kinds[2]} 条错",
            f"{total} claims heard: {kinds[0]} hold, {kinds[1]} hold only under conditions, {kinds[2]} are false",
        ),
        fontsize=11.5,
    )


def trap(frame, ax):
    """A claim on the bench by itself, with how many of its settings hold as the finding."""
    claim = frame[frame["kind"] == "claim"].iloc[-1]
    bench(frame[frame["kind"] == "setting"], ax, claim)
    inside, outside, unsettled = (int(claim[name]) for name in ("holds_in", "fails_in", "open_in"))
    ax.set_title(
        text(
            f"{claim['id']}：{inside} 种设置在里面，{outside} 种在外面，{unsettled} 种定不了",
            f"{claim['id']}: settings inside: {inside}, outside: {outside}, not settled: {unsettled}",
        ),
        fontsize=11.5,
    )


def bench(rows, ax, claim):
    """What is said, and a row per setting: the 95% interval, and the side of the rule's bound on which it lies."""
    across = ("里面是规则要的", "inside is what the rule asks for")
    stage(ax, across, ("设置", "settings"), (0, 100), (-max(len(rows), 4) - 0.4, 2.4))
    said = text(_cut(claim["said_zh"], 66), _cut(f"“{claim['said_en']}”", 128))
    note(ax, "said", 0.5, 2.4, said, fontsize=9, va="top", linespacing=1.2)
    if not len(rows):
        note(ax, "none", 0.5, -1.5, text("没有可以量的数", "there is nothing to measure", " · "), fontsize=10)
        return
    height = len(rows) + 0.3
    boxes(ax, BOUND, -height + 0.2, REACH, height, facecolors=(GREEN, 0.12), zorder=0.5)
    ax.plot([BOUND, BOUND], [-height + 0.2, 0.2], color=ink(), linestyle=DASHES, linewidth=1.2, zorder=1.2)
    note(ax, "inside", BOUND + 1, 0.25, text("在规则之内", "inside the rule", " "), fontsize=8, va="bottom")
    note(ax, "outside", BOUND - 1, 0.25, text("在规则之外", "outside", " "), fontsize=8, va="bottom", ha="right")
    for line, row in enumerate(rows.itertuples()):
        y, (colour, marker) = -line - 0.4, side(row.holds)
        low, middle, high = places(row)
        ax.plot([low, high], [y, y], color=colour, linewidth=3, alpha=0.6, zorder=1.3)
        ax.plot(middle, y, marker, color=colour, markersize=7, zorder=1.4)
        size, both = (8.5, True) if len(rows) <= 7 else (7.5, False)  # too many rows for two lines each
        words = text(_cut(row.zh, 30), _cut(row.en, 58)) if both or language() != "both" else _cut(row.zh, 30)
        note(ax, f"words {line}", 0.5, y, words, fontsize=7 if "\n" in words else size, va="center", linespacing=1.05)
        note(ax, f"number {line}", BOUND + REACH + 1.5, y, powers(row.number), fontsize=size, va="center")


def places(row):
    """Where the interval's ends and the mean are on the bench: their distances from the nearest bound of the rule,
    those inside to the right; in half-intervals, of exact numbers in units of the rule, on an asinh scale."""
    half = (row.high - row.low) / 2
    if not (np.isfinite(half) and half > 0):
        width = row.rule_high - row.rule_low
        half = width / 4 if np.isfinite(width) and width > 0 else max(abs(_finite(row)), 1.0) / 4
    ends = (row.low, row.mean, row.high) if np.isfinite(row.low) else (row.mean,) * 3
    signed = [min(value - row.rule_low, row.rule_high - value) / half for value in ends]
    scaled = np.arcsinh(np.clip(signed, -FARTHEST, FARTHEST)) / np.arcsinh(FARTHEST)
    low, middle, high = BOUND + REACH * scaled
    return min(low, middle, high), middle, max(low, middle, high)


def side(holds):
    """Colour and marker of a setting that holds, does not, or is not settled (None, in a frame also NaN)."""
    return SIDES[None if pd.isna(holds) else bool(holds)]


def _finite(row):
    return row.rule_high if np.isfinite(row.rule_high) else row.rule_low


def _cut(words, most):
    words = words.replace("`", "")
    return words if len(words) <= most else words[: most - 1].rstrip("，、, ") + "…"


def counts(frame, ax):
    """A bar for each source text or chapter, divided by verdict."""
    table = frame.groupby(["group", "verdict"], sort=False).size().unstack(fill_value=0)
    groups = sorted(table.index, key=str)
    canvas.setup(ax, ("说法的条数", "claims"), ("", ""), (0, 1.45 * table.sum(axis=1).max()), (len(groups) - 0.5, -0.7))
    ax.grid(axis="y", visible=False)
    for row, group in enumerate(groups):
        left = 0
        for kind, colour in KINDS.items():
            count = int(table.loc[group].get(kind, 0))
            boxes(ax, left, row - 0.36, count, 0.72, facecolors=colour, linewidths=1, edgecolors=canvas.tone("paper"))
            if count:
                style = {"ground": colour, "ha": "center", "va": "center", "fontsize": 9}
                note(ax, f"{group} {kind}", left + count / 2, row, str(count), **style)
            left += count
    ax.set_yticks(range(len(groups)), [term(group) for group in groups])
    handles = [Patch(facecolor=colour, label=term(kind)) for kind, colour in KINDS.items() if kind in table]
    ax.legend(handles=handles, loc="lower right", frameon=False, fontsize=9)
    whole, share = table.sum(axis=1), table.get("holds", 0) / table.sum(axis=1)
    most = max(groups, key=lambda group: whole[group])
    canvas.finding(
        ax,
        f"{TERMS.get(most, (most,))[0]} 的说法最多，{whole[most]} 条，照原样成立的占 {share[most]:.0%}",
        f"{most} makes most claims, {whole[most]}; {share[most]:.0%} of them hold as they are said",
    )


def tolerance(frame, ax):
    """Seeds of a difference as points, the 95% interval, and the band that the rule allows."""
    allowed, kind = frame["allowed"].iloc[0], frame["verdict"].iloc[0]
    canvas.setup(ax, ("损失之差（nat）", "difference of the losses (nats)"), ("", ""), (-0.06, 0.06), (1.6, -0.7))
    ax.grid(axis="y", visible=False)
    boxes(ax, -allowed, -0.7, 2 * allowed, 2.3, facecolors=(GREEN, 0.15), zorder=0.5)
    for bound in (-allowed, allowed):
        ax.axvline(bound, color=ink(), linestyle=DASHES, linewidth=1.2, zorder=1.2)
    groups = frame.groupby("setting", sort=False)
    for row, (_, part) in enumerate(groups):
        low, high, holds = part[["low", "high", "holds"]].iloc[0]
        colour, marker = side(holds)
        low, high = max(low, -0.06), min(high, 0.06)
        ax.plot([low, high], [row, row], color=colour, linewidth=7, alpha=0.4, zorder=1.3)
        ax.plot(part["value"], np.full(len(part), row), "o", color=canvas.tone("soft"), markersize=4, zorder=1.4)
        ax.plot(part["value"].mean(), row, marker, color=colour, markersize=10, zorder=1.45)
    ax.set_yticks(range(len(groups)), [term(name) for name, _ in groups])
    seeds = frame.groupby("setting").size().iloc[0]
    zh, en = TERMS[kind]
    canvas.finding(
        ax,
        f"{seeds} 个种子，“一样好”取作 ±{allowed:g}：{zh}",
        f"{seeds} seeds, “as well” taken as ±{allowed:g}: {en}",
    )


def cut_grid(frame, ax):
    """Loss against learning rate for both wirings; what lies beyond the cut was not run, and the best of the rest."""
    widest = frame["widest_rate"].iloc[0]
    canvas.setup(
        ax,
        ("学习率", "learning rate"),
        ("损失（nat）", "loss (nats)"),
        (2.4e-4, 1.25e-2),
        (2.25, 3.15),
        "linear",
        "log",
    )
    rates = sorted(frame["learning_rate"].unique())
    ax.set_xticks(rates, [f"{rate:g}" for rate in rates], minor=False)
    ax.minorticks_off()
    if widest < rates[-1]:
        cut = (widest * rates[rates.index(widest) + 1]) ** 0.5
        boxes(ax, cut, 2.25, 1.25e-2 - cut, 0.9, facecolors=(GREY, 0.25), zorder=0.5)
    best, edges = {}, []
    for placement, part in frame.groupby("placement", sort=False):
        means = part.groupby("learning_rate")["loss"].mean()
        run = means[means.index <= widest]
        low, high = (part.groupby("learning_rate")["loss"].agg(end) for end in ("min", "max"))
        canvas.band(ax, placement, run.index, low[run.index], high[run.index], placement)
        canvas.curve(ax, placement, run.index, run, term(placement), placement, markevery=1)
        ax.plot(run.idxmin(), run.min(), "o", markersize=14, fillstyle="none", color=ink(), zorder=1.4)
        best[placement] = run.min()
        edges.append(run.idxmin() in (rates[0], widest))
    gap = canvas.signed(best["post_norm"] - best["pre_norm"], 2, "+")
    zh, en = {
        2: ("两边都在边上", "both at the edge"),
        1: ("一边在边上", "one at the edge"),
        0: ("都不在边上", "inside"),
    }[sum(edges)]
    canvas.finding(
        ax,
        f"试到 {widest:g}：后置比前置 {gap} nat，最好的学习率{zh}",
        f"Rates up to {widest:g}: Post-Norm {gap} nats against Pre-Norm; best rates {en}",
    )


def frames(claims, settings, ids):
    """Rows for `hearing` and `trap`: these claims in this order, and the settings of the last."""
    chosen = claims.set_index("id").loc[list(ids)].reset_index()
    last = settings[settings["id"] == ids[-1]]
    return pd.concat([chosen.assign(kind="claim"), last.assign(kind="setting")])
