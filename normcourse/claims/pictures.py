"""The picture of a claim that is opened: a row for every setting, with what was measured and what the rule asks for."""

import base64
import html
import math
import re
import textwrap
from statistics import mean

import numpy as np
from matplotlib.ticker import MaxNLocator

from .. import canvas
from ..canvas import GREEN, legible, number, powers, raised, setup, text, tone
from ..chapters.scenes import DASHES, SIDES, boxes
from ..i18n import language
from . import cards
from .verdicts import VERDICTS, verdict

WIDE = 30.0  # times from the smallest to the largest number, from which on the axis has powers of ten
WIDTH, LINE = 8.2, 0.19  # of the figure, and from line to line of a row's words, in inches
FITS = {"zh": 19, "en": 36}  # characters of a line beside the axes
MARGINS = {"left": 0.4, "right": 0.96}


def picture(claim, measured):
    """Every seed's value as a dot, mean and 95% interval, and shaded what the rule asks for, by setting.

    Args: claim: a `Claim`. measured: the result of `measure`.
    Returns: a figure; None where there is nothing to draw, the claim being none that can be measured.
    """
    if not claim.settings:
        return None
    words = [_words(setting, measured[name]) for name, setting in claim.settings.items()]
    lines = sum(max(2.2, 1.0 + said.count("\n") + 0.8) for said in words)
    shaded = text("绿底：规则要的", "shaded: what the rule asks for", " · ")
    axis = f"{_wrapped(claim.number, 30, 58)}\n{shaded}"
    below = 0.42 + 0.2 * (1 + axis.count("\n"))
    height = LINE * lines + 0.85 + below
    grid = {**MARGINS, "top": 1 - 0.8 / height, "bottom": below / height}
    figure, _ = canvas.new_figure((WIDTH, height), gridspec_kw=grid)
    canvas.redraw(figure, lambda claim, ax: _rows(claim, measured, words, axis, ax), claim)
    return figure


def page(claim, measured):
    """The picture as HTML, with what it shows in words; a sentence where there is none."""
    figure = picture(claim, measured)
    if figure is None:
        return f"<p>{text('没有可以画的数', 'There is nothing to draw', ' · ')}</p>"
    alt = html.escape(canvas.alt_text(figure), quote=True)
    encoded = base64.b64encode(canvas.png(figure)).decode()
    return f'<img src="data:image/png;base64,{encoded}" alt="{alt}" style="width: 100%; max-width: 52em">'


def _rows(claim, measured, words, axis, ax):
    settings = list(claim.settings.items())
    scale, ends = _axis(claim, measured)
    height = [max(2.2, 1.8 + said.count("\n")) for said in words]
    edges = np.concatenate([[0.0], -np.cumsum(height)])
    setup(ax, ("", ""), ("", ""), ends, (edges[-1], 0.0), xscale="log" if scale == "log" else "linear")
    if scale == "symlog":
        ax.set_xscale("symlog", linthresh=_smallest(claim, measured))
        ax.set_xlim(ends)
    if scale != "linear":
        ax.set_xticks(ticks := _ticks(*ends), [number(tick).replace("1.0×", "") for tick in ticks])
        ax.set_xticks([], minor=True)
    elif _of_ten(claim):
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.xaxis.set_major_formatter(lambda exponent, _: f"10{raised(round(exponent))}")
    ax.set_xlabel(axis, fontsize=9.5, linespacing=1.35)
    ax.grid(axis="y", visible=False)
    for top, bottom, (name, setting) in zip(edges, edges[1:], settings):
        low, high = (float(np.clip(end, *ends)) for end in setting.holds_between)
        boxes(ax, low, bottom + 0.12, high - low, top - bottom - 0.24, facecolors=(GREEN, 0.16), zorder=0.5)
        for end in {*setting.holds_between}:
            if ends[0] < end < ends[1]:
                style = {"color": tone("ink"), "linewidth": 1.2, "linestyle": DASHES}
                ax.plot([end, end], [bottom + 0.12, top - 0.12], **style, zorder=1.2)
        _row(ax, measured[name], setting, (top + bottom) / 2, ends)
    middles = (edges[:-1] + edges[1:]) / 2
    ax.set_yticks(middles, words, fontsize=9, linespacing=1.15)
    ax.tick_params(axis="y", length=0)
    canvas.finding(ax, *_finding(claim, measured))


def _row(ax, of_it, setting, y, ends):
    colour, marker = SIDES[of_it.holds(*setting.holds_between)]
    colour = legible(colour)
    low, high = of_it.interval
    if math.isfinite(low) and high > low:
        low, high = np.clip((low, high), *ends)
        ax.plot([low, high], [y, y], color=colour, linewidth=5, alpha=0.45, solid_capstyle="butt", zorder=1.3)
    if len(of_it.values) > 1:
        values = np.array(of_it.values, float)
        spread = y + 0.32 * np.linspace(-1, 1, len(values))
        inside = (values >= ends[0]) & (values <= ends[1])
        ax.plot(values[inside], spread[inside], "o", color=colour, markersize=3.5, alpha=0.8, zorder=1.5)
    middle = mean(of_it.values)
    beyond = not ends[0] <= middle <= ends[1]
    marker = (">" if middle > ends[1] else "<") if beyond else marker
    style = {"markersize": 9, "markeredgecolor": tone("paper"), "markeredgewidth": 1.2, "clip_on": False}
    ax.plot(np.clip(middle, *ends), y, marker, color=colour, **style, zorder=1.6)


def _axis(claim, measured):
    """("linear", "log" or "symlog", the ends of the axis): all that was measured and the bounds of the rule are on it;
    intervals are cut where they would take more than half of it."""
    values = np.array([v for of_it in measured.values() for v in of_it.values], float)
    bounds = np.array([end for setting in claim.settings.values() for end in setting.holds_between])
    intervals = np.array([end for of_it in measured.values() for end in of_it.interval])
    marks = np.concatenate([values, bounds])
    marks = marks[np.isfinite(marks)]
    sizes = abs(marks[marks != 0])
    spans = len(sizes) > 0 and sizes.max() / sizes.min() > WIDE and not _of_ten(claim)
    if spans and (marks >= 0).all() and not (values == 0).any():
        marks = marks[marks > 0]
        room = max((marks.max() / marks.min()) ** 0.1, 1.3)
        return "log", (marks.min() / room, marks.max() * room)
    if spans and np.median(abs(values[np.isfinite(values)])) * WIDE < sizes.max():
        return "symlog", (min(marks.min() * 2, -sizes.min()) if marks.min() < 0 else -sizes.min(), marks.max() * 2)
    width = np.ptp(marks) or abs(marks[0]) or 1.0
    near = intervals[(intervals > marks.min() - width / 2) & (intervals < marks.max() + width / 2)]
    low, high = min([marks.min(), *near]), max([marks.max(), *near])
    return "linear", (low - 0.12 * (high - low or width), high + 0.12 * (high - low or width))


def _of_ten(claim):
    """Whether its numbers are exponents of ten."""
    return all(setting.format.startswith("10^") for setting in claim.settings.values())


def _ticks(low, high):
    """At most six round numbers between both ends of a logarithmic axis, or 0 and some on both sides of it."""
    sides = [(1, low, high)] if low > 0 else [(-1, -low / 1e3, -low), (1, high / 1e3, high)]
    found = [] if low > 0 else [0.0]
    for sign, least, most in sides:
        if most <= max(-low, high) / 1e3:
            continue
        powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
        finer = (1, 2, 5) if low > 0 and len(powers) < 4 else (1,)
        marks = [m * 10.0**p for p in powers for m in finer if least <= m * 10.0**p <= most]
        step = -(-len(marks) // (6 if low > 0 else 2))
        found += [sign * mark for mark in marks[::-1][::step]]
    return sorted(found)


def _smallest(claim, measured):
    values = [abs(v) for of_it in measured.values() for v in of_it.values if v and math.isfinite(v)]
    bounds = [abs(v) for s in claim.settings.values() for v in s.holds_between if v and math.isfinite(v)]
    return min([*values, *bounds])


def _finding(claim, measured):
    kind = verdict(claim, measured).kind
    zh, en = VERDICTS[kind]
    en = en.removesuffix(" if …")
    if len(claim.settings) == 1:
        ((name, setting),) = claim.settings.items()
        seen, rule = powers(cards.number(setting, measured[name])), powers(cards.condition(setting))
        return f"{claim.id} {zh}：量到 {seen}，规则要 {rule}", f"{claim.id} {en}: measured {seen}, the rule asks {rule}"
    held = [measured[name].holds(*setting.holds_between) for name, setting in claim.settings.items()]
    count, inside = len(held), held.count(True)
    return (
        f"{claim.id} {zh}：{count} 种设置里 {inside} 种在规则之内",
        f"{claim.id} {en}: {inside} of {count} settings are within the rule",
    )


def _words(setting, of_it):
    said = _wrapped({"zh": setting.zh, "en": setting.en}, FITS["zh"], FITS["en"])
    return f"{said}\n{powers(cards.number(setting, of_it))}"


def _wrapped(said, zh, en):
    """Words in the language in force, in lines that fit."""
    codes = ("zh", "en") if language() == "both" else (language(),)
    lines = {"zh": _lines(said["zh"].replace("`", ""), zh), "en": textwrap.wrap(said["en"].replace("`", ""), en)}
    return "\n".join(line for code in codes for line in lines[code])


def _lines(words, most):
    """Chinese in lines, broken after a comma or the like where the second half of a line has one, in no Latin word."""
    lines = []
    while len(words) > most:
        end = max(words.rfind(mark, most // 2, most) for mark in "，；：、）") + 1 or most
        while re.match(r"[\w.×/]{2}|.[，；：、）]|（", words[end - 1 : end + 1], re.ASCII) and end > most // 2:
            end -= 1
        lines.append(words[:end])
        words = words[end:]
    return [*lines, words]
