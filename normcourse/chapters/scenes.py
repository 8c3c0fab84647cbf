"""What the signature pictures share: a stage instead of axes, and shapes that are drawn on it.

A chapter's `signature.py` has the experiment and its drawing. Nothing in it is the size it is for show: every width,
length and place is a measured number.
"""

import numpy as np
from matplotlib.collections import PolyCollection

from ..canvas import GREEN, GREY, VERMILLION, setup, tone
from ..canvas.blocks import DASHED

WHOLE = {"gridspec_kw": {"left": 0.03, "right": 0.97, "bottom": 0.04}}  # a stage needs no room for ticks
PAIR = {"ncols": 2, "gridspec_kw": {"left": 0.03, "right": 0.97, "bottom": 0.04, "wspace": 0.06}}
DASHES = DASHED["linestyle"]  # of theory
SIDES = {True: (GREEN, "o"), False: (VERMILLION, "X"), None: (GREY, "s")}  # holds, does not, is not settled


def stage(ax, across, up, xlim, ylim, aspect="auto"):
    """Axes of which nothing is drawn. across, up: what they show, as (zh, en): a reader of the alt text is told."""
    setup(ax, across, up, xlim, ylim)
    ax.set_aspect(aspect)
    ax.set_axis_off()


def ink():
    """The colour of words and of theory in the look in force."""
    return tone("ink")


def paper():
    """The ground under the picture in the look in force."""
    return tone("paper")


def boxes(ax, x, y, width, height, **style):
    """Rectangles with these lower left corners; any of the four may be one number for all."""
    x, y, width, height = np.broadcast_arrays(*np.atleast_1d(x, y, width, height))
    corners = [np.stack(point, axis=-1) for point in ((x, y), (x + width, y), (x + width, y + height), (x, y + height))]
    ax.add_collection(PolyCollection(np.stack(corners, axis=1), **({"linewidths": 0} | style)), autolim=False)


def arrow(ax, start, end, colour, width=2.0, **style):
    """An arrow between two points of the stage, with the head at `end`."""
    look = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "mutation_scale": 8 + 3 * width}
    ax.annotate("", end, start, arrowprops=look | {"shrinkA": 0, "shrinkB": 0} | style, annotation_clip=False)
