"""What drawings are made of: axes, measured curves with their bands, closed forms, levels, notes, tables in colour."""

import math
import re
from collections import ChainMap

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.colors import Normalize, to_hex
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..i18n import text
from ..norms import NORMS
from ..registry import BLUE, Look
from ..residual import PLACEMENTS
from .labels import keep, name_line
from .look import contrast, tone

# One colour, marker and dash per wiring and per norm throughout the course.
STYLES = ChainMap(PLACEMENTS.each("look"), NORMS.each("look"))
# What a curve has where a drawing says nothing else.
LINE = {"linewidth": 2.0, "markersize": 4.5, "zorder": 2, "alpha": None}
DASHED = {"linestyle": (0, (4, 3)), "zorder": 5}
BANDS = {"light": 0.18, "dark": 0.3}


def finding(ax, zh, en):
    """The title: the finding with its number."""
    ax.set_title(text(zh, en))


def setup(ax, x, y, xlim, ylim, yscale="linear", xscale="linear"):
    """Name the axes in both languages, x and y being (zh, en), and fix their limits. Call it before the curves."""
    ax.set_xlabel(text(*x, between="  "))
    ax.set_ylabel(text(*y, between="  "))
    if ax.get_yscale() != yscale:
        ax.set_yscale(yscale)
    if ax.get_xscale() != xscale:
        ax.set_xscale(xscale)
    ax.set_xlim(xlim)
    ax.set_ylim(ylim)
    for axis, scale, limits in ((ax.xaxis, xscale, xlim), (ax.yaxis, yscale, ylim)):
        if scale == "log":
            _powers_of_ten(axis, *limits)


def _powers_of_ten(axis, low, high):
    """Ticks at powers of ten, evenly, 10⁰ among them where it is in sight; and between them where there are few."""
    bottom, top = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    step = next(s for s in (1, 2, 3, 4, 5, 8, 10, 20, 50, 100) if top // s - -(-bottom // s) < 7 or s == 100)
    axis.set_major_locator(FixedLocator([10.0**n for n in range(-(-bottom // step) * step, top + 1, step)]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"10{raised(round(math.log10(value)))}"))
    between = [m * 10.0**n for n in range(bottom - 1, top + 1) for m in range(2, 10)] if top - bottom <= 3 else []
    axis.set_minor_locator(FixedLocator([b for b in between if low <= b <= high]) if between else NullLocator())
    axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def window(values, *choices):
    """The first of these (low, high) that holds all values that are finite, else the last: axes that fit what is drawn
    and stay put while it moves a little. Give the narrowest first."""
    values = np.ravel(np.asarray(values, float))
    values = values[np.isfinite(values)]
    fits = (c for c in choices if not len(values) or (values.min() >= c[0] and values.max() <= c[1]))
    return next(fits, choices[-1])


def decades(values, every=1, within=(-24, 24)):
    """Limits of a log axis that hold all values that are finite and above 0: a little beyond powers of ten, whose
    exponents are multiples of `every`, so that they stay put while the values move a little, and none outside `within`.
    """
    values = np.ravel(np.asarray(values, float))
    exponents = np.log10(values[np.isfinite(values) & (values > 0)])
    if not len(exponents):
        return 10.0 ** within[0], 10.0 ** within[1]
    low = max(every * math.floor((exponents.min() + 0.1) / every), within[0])
    high = min(every * math.ceil((exponents.max() - 0.1) / every), within[1])
    high = max(high, low + every)
    beyond = 0.15 + 0.02 * (high - low)
    return 10.0 ** (low - beyond), 10.0 ** (high + beyond)


def curve(ax, name, x, y, label=None, placement=None, **style):
    """A measured line with markers, kept under `name`. Points outside the axes are marked at the edge they left by:
    ▼ below (0 on a log scale), ▲ above, × where there is no number.

    label: at the line's end. placement: the wiring, or the norm, whose look the line has. style: of the line, goes
    before that look.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    look = STYLES.get(placement, Look(BLUE, "o"))
    style = {"color": look.colour, "marker": look.marker, "linestyle": look.dash} | style
    style = {"markevery": max(1, len(x) // 12)} | LINE | style
    line = keep(ax, f"curve {name}", lambda: ax.plot([], [])[0])
    line.set(**style)  # all of it: the kept line may have been another wiring's
    line.set_data(x, y)
    low, high = sorted(ax.get_ylim())
    inside = (y >= low) & (y <= high)
    for height, marker, where in ((0.015, "v", y < low), (0.985, "^", y > high), (0.985, "x", np.isnan(y))):
        if where.any():
            edge = {"color": style["color"], "transform": ax.get_xaxis_transform(), "clip_on": False}
            mark = keep(ax, f"curve {name} {marker}", lambda m=marker, e=edge: ax.plot([], [], m, **e)[0])
            mark.set(color=style["color"], markersize=max(4.5, 0.7 * style["markersize"]))
            mark.set_data(x[where], np.full(where.sum(), height))
            mark.set_markevery(max(1, where.sum() // 12))
    if label and len(x):
        seen = np.flatnonzero(inside & np.isfinite(x))
        last = seen[-1] if len(seen) else len(x) - 1
        then = y[min(last + 1, len(y) - 1)]  # beyond the edge: which of two that left there was the higher one
        spot = _leaves(ax, x, y, last) if len(seen) and last + 1 < len(y) else (x[last], y[last])
        name_line(ax, f"curve {name}", label, style["color"], [spot], "end", rank=then)


def _leaves(ax, x, y, last):
    """Where the line crosses the edge of the axes after its last point inside."""
    here, then = y[last], y[last + 1]
    edge = np.clip(then, *sorted(ax.get_ylim()))
    scale = np.log10 if ax.get_yscale() == "log" else np.asarray
    with np.errstate(all="ignore"):
        share = float((scale(edge) - scale(here)) / (scale(then) - scale(here)))
    if not np.isfinite(then) or not np.isfinite(share):
        return x[last], here
    return x[last] + share * (x[last + 1] - x[last]), edge


def band(ax, name, x, low, high, placement=None, **style):
    """The spread of the seeds, kept under `name`."""
    from .look import look

    style = {"color": STYLES.get(placement, (BLUE,))[0], "alpha": BANDS[look()], "linewidth": 0, **style}
    polygon = keep(ax, f"band {name}", lambda: ax.fill_between([0, 1], [1, 1], [2, 2], **style))
    polygon.set_data(np.asarray(x, float), np.asarray(low, float), np.asarray(high, float))
    polygon.set_facecolor(style["color"])


def theory(ax, name, x, y, label=None, at=None):
    """A closed form: thin, dashed, in ink, named on the line (near x = `at`, else two fifths along what is visible)."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    line = keep(ax, f"theory {name}", lambda: ax.plot([], [], color=tone("ink"), linewidth=1.2, **DASHED)[0])
    line.set_data(x, y)
    if label:
        low, high = sorted(ax.get_ylim())
        left, right = sorted(ax.get_xlim())
        seen = np.flatnonzero((y >= low) & (y <= high) & (x >= left) & (x <= right))
        if len(seen):
            first = seen[2 * len(seen) // 5] if at is None else seen[np.abs(x[seen] - at).argmin()]
            order = seen[np.argsort(np.abs(seen - first), kind="stable")]
            name_line(ax, f"theory {name}", label, tone("ink"), [(x[i], y[i]) for i in order], "line")


def level(ax, name, y, label=None, below=False, colour=None):
    """A horizontal line of reference, dashed, in ink, named above it or below, at the left where there is room."""
    colour = colour or tone("ink")
    line = keep(ax, f"level {name}", lambda: ax.axhline(1, color=colour, linewidth=1.0, **DASHED))
    line.set_ydata([y, y])
    low, high = sorted(ax.get_ylim())
    if label and low <= y <= high:
        name_line(ax, f"level {name}", label, colour, [(None, y)], "below" if below else "above")


def note(ax, name, x, y, words, colour=None, ground=None, **style):
    """Words at a point of the axes (in data coordinates), kept under `name`; labels keep clear of them. ground: the
    colour under them, where that is not the paper."""
    style = {"fontsize": 10, "zorder": 6, **style}
    mark = keep(ax, f"note {name}", lambda: ax.text(0, 0, "", **style))
    mark.set(position=(x, y), text=words, color=colour or tone("ink"))
    mark._normcourse_ground = ground
    mark.set_path_effects([] if ground else [patheffects.withStroke(linewidth=3, foreground=tone("paper"))])


def heat_map(ax, table, low, high, words="{:.2f}", beyond=None, missing=None, size=10):
    """A table as coloured cells with its numbers, from `low` to `high`; its rows from the top, as they stand.

    beyond: (a number, words): what cells above that number say, on empty ground, as those that are not finite do;
    missing: what cells without a number say.
    """
    values = table.to_numpy(float)
    limit, over = beyond or (np.inf, "")
    shown = np.isfinite(values) & (values <= limit)
    colours = colormaps["cividis_r"](Normalize(low, high, clip=True)(np.where(shown, values, high)))
    colours[~shown] = [*_rgb(tone("empty")), 1]
    ax.imshow(colours, aspect="auto", interpolation="nearest")
    ax.grid(False)
    ax.tick_params(length=0)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    ax.set_xticks(range(table.shape[1]), [f"{c:g}" for c in table.columns])
    ax.set_yticks(range(table.shape[0]), [f"{r:g}" for r in table.index])
    for (i, j), value in np.ndenumerate(values):
        ground = to_hex(colours[i, j])
        ink = max("#000000", "#ffffff", key=lambda c, g=ground: contrast(c, g))
        said = words.format(value) if shown[i, j] else (missing if np.isnan(value) and missing is not None else over)
        mark = ax.text(j, i, said, color=ink, ha="center", va="center", fontsize=size)
        mark._normcourse_ground = ground


def _rgb(colour):
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def number(value, formula=False):
    """A figure as one reads it: 0.0004, 12.3, 3.1×10¹⁵; formula: for a label with `$…$` in it, whose font for formulas
    has no raised digits."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "nan" if math.isnan(value) else "−∞"
    if value == 0 or 1e-4 <= abs(value) < 1e5:
        digits = 0 if value == 0 else max(0, 1 - math.floor(math.log10(abs(value))))
        return f"{value:.{min(digits, 5)}f}".replace("-", "−")
    mantissa, exponent = f"{value:.1e}".split("e")
    if formula:
        return rf"${mantissa}\times10^{{{int(exponent)}}}$"
    return f"{mantissa}×10{raised(int(exponent))}".replace("-", "−")


def raised(exponent):
    """An exponent as it is written: -8 as ⁻⁸, 0.5 as ⁰⋅⁵."""
    return str(exponent).translate(str.maketrans("-−0123456789.", "⁻⁻⁰¹²³⁴⁵⁶⁷⁸⁹⋅"))


def powers(words):
    """Words with the exponents in them raised: 10^−0.4 as 10⁻⁰⋅⁴."""
    return re.sub(r"\^([-−]?\d+(?:\.\d+)?)", lambda found: raised(found[1]), words)


def signed(value, digits, sign=""):
    """A figure with so many digits, a true minus and no −0; sign="+" writes the plus too."""
    value = round(float(value), digits) + 0.0
    return f"{value:{sign if value else ''}.{digits}f}".replace("-", "−")


def spread(frame, x, y):
    """Per value of column x, the geometric mean, lowest and highest of column y over the seeds."""
    groups = frame.groupby(x)[y]
    with np.errstate(divide="ignore"):
        middle = np.exp(np.log(frame[y]).groupby(frame[x]).mean())
    return middle.index.to_numpy(), middle.to_numpy(), groups.min().to_numpy(), groups.max().to_numpy()
