"""Artists that are moved instead of drawn anew: what is on the axes afterwards equals a fresh picture."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from normcourse import canvas
from normcourse.canvas import STYLES
from normcourse.chapters.layer_normalisation.drawings import geometry
from normcourse.chapters.rms_norm.drawings import mean_share

LOOKS = [*STYLES, None]


def pixels(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba()).copy()


def draw(setting, ax):
    """A curve with points below, above and missing, so that the marks at the edges are there too, and a band."""
    name, style = setting
    canvas.setup(ax, ("层", "layer"), ("值", "value"), (0, 10), (0, 1))
    x, y = np.arange(11), np.array([-1, 0.2, 0.4, 0.9, 2, 0.5, 0.3, np.nan, 0.6, 0.7, 0.8])
    canvas.band(ax, "the one", x, np.full(11, 0.3), np.full(11, 0.5), name)
    canvas.curve(ax, "the one", x, y, "label", name, **style)


def picture(*settings):
    """The last of these on one figure, after the others."""
    figure, _ = canvas.new_figure((3, 2))
    for setting in settings:
        canvas.redraw(figure, draw, setting)
    return pixels(figure)


@pytest.mark.parametrize(("before", "after"), [*itertools.pairwise(LOOKS), ("rms_norm", "plain")])
def test_after_a_switch_of_wiring_or_norm_a_curve_looks_as_on_a_fresh_figure(before, after):
    assert np.array_equal(picture((before, {}), (after, {})), picture((after, {})))


def test_after_a_switch_nothing_is_left_of_what_the_first_drawing_asked_for():
    style = {"color": "#123456", "marker": "", "linestyle": ":", "linewidth": 5, "markersize": 9, "alpha": 0.3}
    style |= {"zorder": 7, "markevery": 3}
    assert np.array_equal(picture(("plain", style), ("plain", {})), picture(("plain", {})))


def test_every_registered_look_makes_a_picture_of_its_own():
    pictures = {name: picture((name, {})).tobytes() for name in STYLES}
    assert len(set(pictures.values())) == len(pictures)


def test_what_a_drawing_asks_for_goes_before_the_look():
    figure, ax = canvas.new_figure((3, 2))
    canvas.redraw(figure, draw, ("plain", {"marker": "x", "color": "#000000"}))
    line = ax.lines[0]
    assert (line.get_marker(), line.get_color(), line.get_linestyle()) == ("x", "#000000", "-")


def test_norms_keep_their_look_in_every_chapter():
    """The points of chapter 03 and the curves of chapter 05."""
    norms, points = ["layer_norm", "rms_norm"], np.random.default_rng(0).normal(size=(5, 9))
    columns = [f"{place}{i}" for place in "xcp" for i in range(3)]
    frame = pd.concat([pd.DataFrame(points, columns=columns).assign(norm=norm) for norm in norms])
    figure, _ = canvas.new_figure((6, 3), ncols=2)
    canvas.redraw(figure, geometry, frame.assign(azimuth=30, elevation=20))
    for ax, norm in zip(figure.axes, norms):
        points_now = [c for c in ax.collections if isinstance(c, PathCollection)][-1]
        assert to_hex(points_now.get_facecolor()[0]).upper() == STYLES[norm].colour
    rows = [(layer, 0.1, norm, 0, 1, 64) for norm in norms for layer in range(3)]
    figure, ax = canvas.new_figure((6, 3))
    columns = ["layer", "share", "norm", "seed", "step", "width"]
    canvas.redraw(figure, mean_share, pd.DataFrame(rows, columns=columns))
    found = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in ax.lines]
    assert {STYLES[norm] for norm in norms} <= set(found)


def test_exponents_in_words_are_raised():
    assert canvas.powers("10^−0.4 [10^-31, 10^2]") == "10⁻⁰⋅⁴ [10⁻³¹, 10²]"
    assert canvas.powers("2^(−l/2), x^y") == "2^(−l/2), x^y"
    assert canvas.raised(-8) == "⁻⁸"
