"""The look of the course, and its building blocks.

A drawing function takes `(frame, ax)` and draws onto the axes it is given, with `curve`, `band`, `theory`, `level` and
`note` or with matplotlib's own methods. `redraw` begins with the axes as they were when the figure was new: a picture
depends on nothing that was drawn, and on no style that was set, before it.

    __init__   figures, and their way to PNG
    look       light and dark
    blocks     what drawings are made of
    labels     where the labels go: beside each other, off the lines, inside the figure

Importing this sets matplotlib's defaults to the look of the course, with a font that has Chinese.
"""

import base64
import contextlib
import copy
import io
import itertools

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..i18n import text  # noqa: F401  drawings take it from here
from ..registry import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, VIOLET, Look  # noqa: F401
from .blocks import (  # noqa: F401
    LINE,
    STYLES,
    band,
    curve,
    decades,
    finding,
    heat_map,
    level,
    note,
    number,
    powers,
    raised,
    setup,
    signed,
    spread,
    theory,
    window,
)
from .labels import arrange, begin
from .look import LEGIBLE, TONES, contrast, legible, look, on_look_change, set_look, styled, tone  # noqa: F401

DENSITY = 2  # pixels of a picture to one of the screen's as CSS counts them


@styled()
def _new(size, subplots):
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    axes = figure.subplots(**subplots)
    width, height = figure.get_size_inches()
    figure.subplots_adjust(
        left=0.85 / width, right=1 - 1.15 / width, bottom=0.75 / height, top=1 - 0.72 / height, wspace=0.5
    )
    return figure, axes


def new_figure(size=None, **subplots):
    """A figure off pyplot's books, with fixed margins above and below, and its axes (as `Figure.subplots`).

    Left and right of the axes there is as much room as their labels need, unless `gridspec_kw` says how much.
    """
    figure, axes = _new(size, subplots)
    plain = {look(): [_plain(part) for part in _parts(figure)]}
    places = {ax: ax.get_subplotspec() for ax in figure.axes}
    figure._normcourse_new = size, subplots, figure.get_size_inches(), places, plain
    return figure, axes


@styled()
def redraw(figure, draw, frame):
    """Draw `frame` onto the figure's axes as if they were new. `draw(frame, ax)` gets one axes or their array."""
    axes = _renew(figure)
    for ax in axes:
        begin(ax)
    draw(frame, axes[0] if len(axes) == 1 else np.array(axes))
    arrange(figure, axes)


def _renew(figure):
    """The axes of a new figure, with nothing left of what was drawn. (`Axes.clear` alone leaves settings and other
    axes; new axes would be no longer those that `new_figure` returned.)"""
    size, subplots, inches, places, plain = figure._normcourse_new
    if look() not in plain:  # the first picture in this look
        plain[look()] = [_plain(part) for part in _parts(_new(size, subplots)[0])]
    for ax in [ax for ax in figure.axes if ax not in places]:  # colour bars, twins
        ax.remove()
    lists = (figure.texts, figure.lines, figure.patches, figure.images, figure.artists, figure.legends)
    for artist in itertools.chain(*map(list, lists)):
        artist.remove()
    figure.subfigs = []
    figure.set_size_inches(inches)
    for settings in (True, False):
        for part, attributes in zip(_parts(figure), plain[look()]):
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


@contextlib.contextmanager
def _dense(figure, density):
    dpi = figure.dpi
    figure.dpi = dpi * density
    try:
        yield
    finally:
        figure.dpi = dpi


@styled()
def png(figure, compress_level=1, density=DENSITY):
    """The figure as PNG bytes, with `density` pixels to one of its own."""
    from PIL import Image

    with _dense(figure, density):
        figure.canvas.draw()
        pixels = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    with io.BytesIO() as file:
        pixels.save(file, "png", compress_level=compress_level)
        return file.getvalue()


def small_png(figure):
    """The figure as base64 PNG with at most 64 colours and as many pixels as it has, for stored outputs."""
    from PIL import Image

    with io.BytesIO(png(figure, density=1)) as file, io.BytesIO() as small:
        Image.open(file).quantize(64, dither=Image.Dither.NONE).save(small, "png", optimize=True)
        return base64.b64encode(small.getvalue()).decode()


def alt_text(figure):
    """The figure in words: titles (the findings) and what the axes show."""
    parts = []
    for ax in figure.axes:
        parts += [ax.get_title(loc="left"), f"y: {ax.get_ylabel()}; x: {ax.get_xlabel()}"]
    return ". ".join(part.replace("\n", " / ") for part in parts if part)
