"""The look of the course, and its building blocks.

A drawing function takes `(frame, ax)` and draws onto the axes it is given, with `curve`, `band`, `theory`, `level` and
`note` or with matplotlib's own methods. `redraw` begins with the axes as they were when the figure was new: a picture
depends on nothing that was drawn, and on no style that was set, before it.

Importing this module sets matplotlib's defaults to the look of the course, with a font that has Chinese.
"""

import base64
import contextlib
import copy
import io
import itertools
import math
from collections import ChainMap

import matplotlib
import numpy as np
from matplotlib import font_manager, patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .data import FONT
from .i18n import text
from .norms import NORMS
from .registry import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, Look  # noqa: F401  drawings take them from here
from .residual import PLACEMENTS

font_manager.fontManager.addfont(FONT)
_SETTINGS = {
    "font.family": ["NormCourse Sans", "DejaVu Sans"],
    "font.size": 11,
    "axes.titlesize": 12.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": "#222222",
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "lines.linewidth": 2.0,
    "lines.markersize": 4.5,
    "figure.figsize": (7.6, 4.2),
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.unicode_minus": True,
}
matplotlib.rcParams.update(_SETTINGS)
_NO_LOOK = {"backend", "backend_fallback", "interactive", "toolbar", "timezone", "webagg.address", "date.epoch"}
_LOOK = {name: value for name, value in matplotlib.rcParamsDefault.items() if name not in _NO_LOOK} | _SETTINGS

# One colour, marker and dash per wiring and per norm throughout the course.
STYLES = ChainMap(PLACEMENTS.each("look"), NORMS.each("look"))
# What a curve has where a drawing says nothing else.
LINE = {"linewidth": matplotlib.rcParams["lines.linewidth"], "markersize": matplotlib.rcParams["lines.markersize"]}
LINE |= {"zorder": 2, "alpha": None}


@contextlib.contextmanager
def _look():
    """The look of the course for a moment, whatever style was set. Touches only settings that differ, and not those
    that the learner's cell, running beside this, sets meanwhile."""
    settings = matplotlib.rcParams
    theirs = {name: settings[name] for name, ours in _LOOK.items() if settings[name] != ours}
    settings.update({name: _LOOK[name] for name in theirs})
    try:
        yield
    finally:
        settings.update({name: value for name, value in theirs.items() if settings[name] == _LOOK[name]})


@_look()
def new_figure(size=None, **subplots):
    """A figure off pyplot's books, with fixed margins so that axes stay put, and its axes (as `Figure.subplots`)."""
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    axes = figure.subplots(**subplots)
    width, height = figure.get_size_inches()
    figure.subplots_adjust(
        left=0.85 / width, right=1 - 1.15 / width, bottom=0.75 / height, top=1 - 0.72 / height, wspace=0.5
    )
    plain = [_plain(part) for part in _parts(figure)]
    figure._normcourse_new = figure.get_size_inches(), {ax: ax.get_subplotspec() for ax in figure.axes}, plain
    return figure, axes


@_look()
def redraw(figure, draw, frame):
    """Draw `frame` onto the figure's axes as if they were new. `draw(frame, ax)` gets one axes or their array."""
    axes = _renew(figure)
    for ax in axes:
        _begin(ax)
    draw(frame, axes[0] if len(axes) == 1 else np.array(axes))
    for ax in axes:
        _finish(ax)


def _renew(figure):
    """The axes of a new figure, with nothing left of what was drawn. (`Axes.clear` alone leaves settings and other
    axes; new axes would be no longer those that `new_figure` returned.)"""
    size, places, plain = figure._normcourse_new
    for ax in [ax for ax in figure.axes if ax not in places]:  # colour bars, twins
        ax.remove()
    lists = (figure.texts, figure.lines, figure.patches, figure.images, figure.artists, figure.legends)
    for artist in itertools.chain(*map(list, lists)):
        artist.remove()
    figure.subfigs = []
    figure.set_size_inches(size)
    for settings in (True, False):
        for part, attributes in zip(_parts(figure), plain):
            vars(part).update(copy.deepcopy(attributes))
        if settings:  # some are read by clear, and some only changed by it
            for ax in places:
                ax.clear()
    for ax, place in places.items():
        ax.set_subplotspec(place)
        vars(ax).pop("_normcourse_kept", None)
    return [*places]


def _parts(figure):
    """What of a figure carries settings."""
    axes = [[ax, ax.patch, *ax.spines.values(), *ax._axis_map.values()] for ax in figure.axes]
    return [figure, figure.patch, figure.subplotpars, *itertools.chain(*axes)]


def _plain(part):
    """Its settings: attributes that are no objects with a life of their own, and the tables for its ticks."""
    kinds = (type(None), bool, int, float, str, tuple)
    return {k: copy.copy(v) for k, v in vars(part).items() if isinstance(v, kinds) or k.endswith("_tick_kw")}


@_look()
def png(figure, compress_level=1):
    """The figure as PNG bytes."""
    from PIL import Image

    figure.canvas.draw()
    pixels = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    with io.BytesIO() as file:
        pixels.save(file, "png", compress_level=compress_level)
        return file.getvalue()


def small_png(figure):
    """The figure as base64 PNG with at most 256 colours, for stored outputs."""
    from PIL import Image

    with io.BytesIO(png(figure)) as file, io.BytesIO() as small:
        Image.open(file).quantize(256, dither=Image.Dither.NONE).save(small, "png", optimize=True)
        return base64.b64encode(small.getvalue()).decode()


def alt_text(figure):
    """The figure in words: titles (the findings) and what the axes show."""
    parts = []
    for ax in figure.axes:
        parts += [ax.get_title(loc="left"), f"y: {ax.get_ylabel()}; x: {ax.get_xlabel()}"]
    return ". ".join(part.replace("\n", " / ") for part in parts if part)


# --- building blocks -------------------------------------------------------------------------------------------------


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


def curve(ax, name, x, y, label=None, placement=None, **style):
    """A measured line with markers, kept under `name`. Points outside the axes are marked at the edge they left by:
    ▼ below (0 on a log scale), ▲ above, × where there is no number.

    placement: the wiring, or the norm, whose look the line has. style: of the line, goes before that look.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    look = STYLES.get(placement, Look(BLUE, "o"))
    style = {"color": look.colour, "marker": look.marker, "linestyle": look.dash} | style
    style = {"markevery": max(1, len(x) // 12)} | LINE | style
    line = _keep(ax, f"curve {name}", lambda: ax.plot([], [])[0])
    line.set(**style)  # all of it: the kept line may have been another wiring's
    line.set_data(x, y)
    low, high = sorted(ax.get_ylim())
    inside = (y >= low) & (y <= high)
    for height, marker, where in ((0.015, "v", y < low), (0.985, "^", y > high), (0.985, "x", np.isnan(y))):
        if where.any():
            edge = {"color": style["color"], "transform": ax.get_xaxis_transform(), "clip_on": False}
            mark = _keep(ax, f"curve {name} {marker}", lambda m=marker, e=edge: ax.plot([], [], m, **e)[0])
            mark.set_color(style["color"])
            mark.set_data(x[where], np.full(where.sum(), height))
            mark.set_markevery(max(1, where.sum() // 12))
    if label and inside.any():
        last = np.flatnonzero(inside)[-1]
        _label(ax, label, x[last], y[last], style["color"])
    elif label and len(x):
        _label(ax, label, x[-1], low if (y < low).any() else high, style["color"])


def band(ax, name, x, low, high, placement=None, **style):
    """The spread of the seeds, kept under `name`."""
    style = {"color": STYLES.get(placement, (BLUE,))[0], "alpha": 0.18, "linewidth": 0, **style}
    polygon = _keep(ax, f"band {name}", lambda: ax.fill_between([0, 1], [1, 1], [2, 2], **style))
    polygon.set_data(np.asarray(x, float), np.asarray(low, float), np.asarray(high, float))
    polygon.set_facecolor(style["color"])


def theory(ax, name, x, y, label=None, at=None):
    """A closed form: thin, dashed, black, named on the line (at x = `at`, else two fifths along what is visible)."""
    line = _keep(
        ax, f"theory {name}", lambda: ax.plot([], [], color="black", linestyle=(0, (4, 3)), linewidth=1.2, zorder=5)[0]
    )
    line.set_data(np.asarray(x, float), np.asarray(y, float))
    if label:
        low, high = sorted(ax.get_ylim())
        inside = [i for i, value in enumerate(y) if low <= value <= high] or [0]
        spot = inside[len(inside) // 2] if at is None else int(np.abs(np.asarray(x) - at).argmin())
        falling = y[min(spot + 1, len(y) - 1)] < y[max(spot - 1, 0)]  # the free side is above: right of a falling line
        style = {"textcoords": "offset points", "xytext": (6, 5), "va": "bottom", "fontsize": 10, "zorder": 6}
        mark = _keep(ax, f"theory {name} label", lambda: ax.annotate("", (0, 0), **style))
        mark.set(text=label, ha="left" if falling else "right")
        mark.xyann = (6, 5) if falling else (-6, 5)
        mark.xy = (x[spot], min(max(y[spot], low), high))
        mark.set_path_effects([patheffects.withStroke(linewidth=3, foreground="white")])


def level(ax, name, y, label=None, below=False):
    """A horizontal line of reference, dashed and black, named at its left end, above or below."""
    line = _keep(ax, f"level {name}", lambda: ax.axhline(1, color="black", linestyle=(0, (4, 3)), linewidth=1.0))
    line.set_ydata([y, y])
    if label:
        style = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points", "fontsize": 10}
        style |= {"xytext": (6, -4), "va": "top"} if below else {"xytext": (6, 4)}
        mark = _keep(ax, f"level {name} label", lambda: ax.annotate("", (0, 0), **style))
        mark.set_text(label)
        mark.xy = (0.0, y)


def note(ax, name, x, y, words, colour="black", **style):
    """Words at a point of the axes (in data coordinates), kept under `name`."""
    style = {"fontsize": 10, "zorder": 6, **style}
    mark = _keep(ax, f"note {name}", lambda: ax.text(0, 0, "", **style))
    mark.set(position=(x, y), text=words, color=colour)


def number(value):
    """A figure as one reads it: 0.0004, 12.3, 3.1×10¹⁵."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "nan" if math.isnan(value) else "−∞"
    if value == 0 or 1e-4 <= abs(value) < 1e5:
        digits = 0 if value == 0 else max(0, 1 - math.floor(math.log10(abs(value))))
        return f"{value:.{min(digits, 5)}f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}×10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


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


def _keep(ax, name, make):
    kept = ax.__dict__.setdefault("_normcourse_kept", {})
    if name not in kept:
        kept[name] = make()
    kept[name].set_visible(True)
    return kept[name]


def _label(ax, label, x, y, colour):
    ax.__dict__.setdefault("_normcourse_labels", []).append((label, x, y, colour))


def _begin(ax):
    ax._normcourse_labels = []


def _finish(ax):
    """Labels where their lines end, pushed apart until none covers another."""
    height = ax.get_window_extent().height / ax.figure.dpi * 72
    places = []
    for label, x, y, colour in ax._normcourse_labels:
        across, up = ax.transAxes.inverted().transform(ax.transData.transform((x, y)))
        lowest = 7.0 * (1 + label.count("\n"))
        places.append([min(max(up * height, lowest), height), min(across, 1.0), label, colour])
    places.sort(key=lambda place: place[0])
    for lower, upper in itertools.pairwise(places):
        upper[0] = max(upper[0], lower[0] + 14 * (1 + lower[2].count("\n")))
    excess = max(places[-1][0] - height, 0.0) if places else 0.0
    style = {
        "textcoords": "offset points",
        "xytext": (7, 0),
        "va": "center",
        "fontsize": 10.5,
        "annotation_clip": False,
    }
    for i, (up, across, label, colour) in enumerate(places):
        mark = _keep(ax, f"label {i}", lambda: ax.annotate("", (1, 0), xycoords="axes fraction", **style))
        mark.set(text=label, color=colour)
        mark.set_path_effects([patheffects.withStroke(linewidth=3, foreground="white")])
        mark.xy = (across, (up - excess) / height)
