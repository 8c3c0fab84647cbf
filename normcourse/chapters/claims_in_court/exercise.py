"""The figures of exercise 13. Each takes the functions that the learner wrote."""

import inspect
import math

import numpy as np
import pandas as pd
import torch

from ... import canvas
from ...canvas import GREEN, GREY, VERMILLION
from ...explore import explore
from ..figures import figure
from ..scenes import DASHES, boxes, ink

JUDGED = {1: ("成立", "holds", GREEN, "o"), -1: ("不成立", "fails", VERMILLION, "X"), 0: ("定不了", "open", GREY, "s")}
RATES = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512]


@figure
def verdicts(judge_by_rule):
    def experiment(seeds_used=5):
        rows = []
        for effect in np.linspace(-1.5, 1.5, 13):
            values = torch.randn(10, generator=torch.Generator().manual_seed(3), dtype=torch.float64)[:seeds_used]
            bottom, top, judged = map(float, judge_by_rule(values * 0.5 + effect, -0.75, 0.75))
            rows.append((effect, values.mean().item() * 0.5 + effect, bottom, top, judged))
        return pd.DataFrame(rows, columns=["effect", "mean", "bottom", "top", "judged"]).assign(seeds=seeds_used)

    def draw(frame, ax):
        x, y = ("真正的差", "true difference"), ("量到的，95% 区间", "measured, 95% interval")
        canvas.setup(ax, x, y, (-1.7, 1.7), (-3, 3))
        rule(ax, -0.75, 0.75)
        for row in frame.itertuples():
            judged(ax, row.effect, max(row.bottom, -3), row.mean, min(row.top, 3), int(row.judged))
        open_ = int((frame["judged"] == 0).sum())
        seeds = frame["seeds"].iloc[0]
        canvas.finding(
            ax,
            f"{seeds} 个种子：{len(frame)} 种差里有 {open_} 种定不了",
            f"{seeds} seeds: of {len(frame)} differences {open_} are not settled",
        )

    return explore(experiment, draw, seeds_used=(1, 10))


def rule(ax, low, high):
    """What the rule allows, as a band across the axes."""
    left, right = ax.get_xlim()
    bottom, top = ax.get_ylim()
    ends = max(low, bottom), min(high, top)
    boxes(ax, left, ends[0], right - left, ends[1] - ends[0], facecolors=(GREEN, 0.12), zorder=0.5)
    for side in (low, high):
        if math.isfinite(side):
            ax.axhline(side, color=ink(), linestyle=DASHES, linewidth=1.2, zorder=1.2)


def judged(ax, x, bottom, middle, top, kind):
    """An interval with the marker of its verdict."""
    _, _, colour, marker = JUDGED[kind]
    ax.plot([x, x], [bottom, top], color=colour, linewidth=3, alpha=0.6, zorder=1.3)
    ax.plot(x, middle, marker, color=colour, markersize=7, zorder=1.4)


@figure
def compared(testify, fair_comparison, judge_by_rule):
    """Loss with normalised features minus that without, each at its own best rate of a grid of so many."""
    seeds = tuple(range(5))

    def experiment(rates_tried=10):
        tables = []
        for normalised in (True, False):
            ends = [testify(seeds, 30, rate, normalised)[:, 1].log10() for rate in RATES[:rates_tried]]
            tables.append(torch.stack(ends))
        rates = torch.tensor(RATES[:rates_tried], dtype=torch.float64)
        middle, bottom, top, edge = map(float, fair_comparison(rates, tables[0], rates, tables[1]))
        facts = {"middle": middle, "bottom": bottom, "top": top, "edge": edge}
        rows = [
            {"rate": rate, "kind": kind, "loss": losses.mean().item()}
            for kind, table in zip(("normalised", "plain"), tables)
            for rate, losses in zip(RATES, table)
        ]
        return pd.DataFrame(rows).assign(**facts)

    def draw(frame, ax):
        x, y = ("学习率", "learning rate"), ("30 步后的损失，log10", "loss after 30 steps, log10")
        canvas.setup(ax, x, y, (RATES[0] / 1.3, RATES[-1] * 1.3), (-6, 6), "linear", "log")
        names = {
            "normalised": ("归一化", "normalised", canvas.BLUE, "o"),
            "plain": ("不归一化", "plain", VERMILLION, "s"),
        }
        for kind, (zh, en, colour, marker) in names.items():
            part = frame[frame["kind"] == kind]
            words = canvas.text(zh, en, " ")
            style = {"color": colour, "marker": marker, "markevery": 1}
            canvas.curve(ax, kind, part["rate"], part["loss"], words, **style)
        first = frame.iloc[0]
        middle = canvas.signed(first["middle"], 1, "+")
        zh, en = ("在网格的边上", "at the edge of the grid") if first["edge"] else ("都不在边上", "inside the grid")
        canvas.finding(
            ax,
            f"{frame['rate'].nunique()} 个学习率：归一化的损失是 10 的 {middle} 次方倍，最好的{zh}",
            f"{frame['rate'].nunique()} rates: normalised, the loss is 10 to the {middle}; best rates {en}",
        )

    return explore(experiment, draw, rates_tried=(3, len(RATES)))


def traps(measure, seeds, conditions):
    """The traps of this course that a measurement falls into, as (zh, en), found by how it behaves.

    Args: measure: function of `seed` and of its conditions that gives a number. conditions: {name: value}, as stated;
        a list under `learning_rate` is a grid, and the lowest mean its best.
    Returns: the traps, and the numbers, one per seed.
    """
    found, stated = [], dict(conditions)
    parameters = inspect.signature(measure).parameters
    unstated = [name for name in parameters if name != "seed" and name not in stated]
    if unstated:
        names = ", ".join(unstated)
        found.append((f"没有写明的设置：{names}", f"unstated: {names}"))
    grid = stated.get("learning_rate")
    if isinstance(grid, (list, tuple)):
        means = [np.mean([measure(seed=s, **stated | {"learning_rate": rate}) for s in seeds]) for rate in grid]
        best = int(np.nanargmin(means))
        if best in (0, len(grid) - 1):
            found.append(("最好的学习率在网格的边上", "the best rate is at the edge of its grid"))
        stated["learning_rate"] = grid[best]
    values = [float(measure(seed=seed, **stated)) for seed in seeds]
    if [float(measure(seed=seed, **stated)) for seed in reversed(seeds)][::-1] != values:
        found.append(("同一个种子，两次得到的数不同", "one seed gives two numbers"))
    if len(set(seeds)) < 3:
        found.append(("不到三个种子", "fewer than three seeds"))
    elif len(set(values)) == 1:
        found.append(("种子没有用上", "the seed is not used"))
    if stated.get("steps"):
        start = [float(measure(seed=seed, **stated | {"steps": 0})) for seed in seeds]
        if start == values:
            found.append(("量的是初始化，不是训练", "this is initialisation, not training"))
    return found, values


@figure
def own_claim(judge_by_rule, measure, rule_of_it, conditions):
    """A claim of the learner's own before the court: the verdict by its rule (low, high), or the first trap met."""
    low, high = rule_of_it

    def experiment(seeds_used=5):
        found, values = traps(measure, list(range(seeds_used)), conditions)
        ends = judge_by_rule(torch.tensor(values, dtype=torch.float64), low, high)
        bottom, top, kind = map(float, ends)
        said = found[0] if found else JUDGED[int(kind)][:2]
        facts = {"bottom": bottom, "top": top, "judged": kind, "zh": said[0], "en": said[1], "traps": len(found)}
        return pd.DataFrame({"seed": range(seeds_used), "value": values}).assign(**facts)

    def draw(frame, ax):
        values, first = frame["value"], frame.iloc[0]
        known = [*values, *(side for side in (low, high) if math.isfinite(side))]
        reach = max(max(known) - min(known), 1e-9)
        limits = min(known) - 0.3 * reach, max(known) + 0.3 * reach
        canvas.setup(ax, ("种子", "seed"), ("量到的数", "number measured"), (-0.6, 10.6), limits)
        rule(ax, low, high)
        ax.plot(frame["seed"], values, "o", color=canvas.tone("soft"), zorder=1.4)
        bottom, top = max(first["bottom"], limits[0]), min(first["top"], limits[1])
        judged(ax, 10.2, bottom, values.mean(), top, 0 if first["traps"] else int(first["judged"]))
        canvas.finding(
            ax,
            f"{len(frame)} 个种子，均值 {canvas.number(values.mean())}：{first['zh']}",
            f"{len(frame)} seeds, mean {canvas.number(values.mean())}: {first['en']}",
        )

    return explore(experiment, draw, seeds_used=(1, 10))
