"""Explorers: what their controls mean, what they show, and every explorer of every notebook driven over its range."""

import base64
import contextvars
import functools
import gc
import io
import itertools
import linecache
import os
import random
import subprocess
import sys
import threading
import time
import types
import warnings
import weakref
import zlib
from pathlib import Path

import ipywidgets
import matplotlib
import numpy as np
import pandas as pd
import pytest
import seaborn
import torch
from matplotlib import pyplot
from PIL import Image

from normcourse import canvas, i18n
from normcourse import explore as module
from normcourse.explore import Explorer, explore
from normcourse.explore.studio import studio
from normcourse.residual import PLACEMENTS
from tools import build_exercises
from tools.build_notebooks import lessons, read


def experiment(depth=5, gain=1.0, placement="plain"):
    return pd.DataFrame({"layer": range(depth + 1), "value": [gain**i for i in range(depth + 1)]})


def draw(frame, ax):
    canvas.setup(ax, ("层", "layer"), ("值", "value"), (0, 20), (1e-6, 1e6), "log")
    canvas.curve(ax, "values", frame["layer"], frame["value"], i18n.text("值", "value"))
    canvas.finding(ax, f"共 {len(frame)} 个", f"{len(frame)} of them")


@pytest.fixture(autouse=True)
def as_at_the_start():
    i18n.set_language("both")
    yield
    i18n.set_language("both")
    for explorer in [*studio.plans]:  # or the threads would go on drawing ahead, beside the next test
        explorer.close()


@pytest.fixture
def unhurried(monkeypatch):
    """All along the axis is drawn ahead, however slow and busy the machine."""
    monkeypatch.setattr(module, "AHEAD_SECONDS", 1e6)
    monkeypatch.setattr(module, "AXIS_SECONDS", 1e6)


def wait_for(condition, seconds=100):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def picture(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_ranges_lists_dicts_and_defaults_mean_what_they_mean_in_interact():
    explorer = explore(experiment, draw, depth=(1, 20), gain=(0.2, 2.0, 0.1), placement=PLACEMENTS_OF_TWO)
    depth, gain, placement = (c.widget for c in explorer.controls.values())
    assert isinstance(depth, ipywidgets.IntSlider) and (depth.min, depth.max, depth.value) == (1, 20, 5)
    assert isinstance(gain, ipywidgets.FloatSlider) and gain.value == 1.0 and gain.step == 0.1
    assert isinstance(placement, ipywidgets.Dropdown) and placement.value == "plain"
    assert explorer.controls["gain"].at(3) == 0.5  # not 0.5000000000000001

    def no_defaults(a, b, c, d):
        return pd.DataFrame({"layer": [0], "value": [1.0]})

    explorer = explore(no_defaults, draw, a=(0, 10), b=(0.0, 1.0), c=["x", "y"], d=True)
    assert [c.widget.value for c in explorer.controls.values()] == [5, 0.5, "x", True]
    explorer = explore(
        lambda a: no_defaults(a, 0, 0, 0), draw, a=ipywidgets.FloatLogSlider(value=0.1, min=-3, max=0, step=0.5)
    )
    assert explorer.controls["a"].at(0) == pytest.approx(1e-3) and explorer.controls["a"].count == 7


PLACEMENTS_OF_TWO = {"plain": "plain", "residual": "residual"}


def test_a_dict_of_classes_hands_the_class_to_the_experiment():
    seen = []

    def record(placement):
        seen.append(placement)
        return pd.DataFrame({"layer": [0], "value": [1.0]})

    explorer = explore(record, draw, placement=PLACEMENTS)
    explorer.render(placement=PLACEMENTS["pre_norm"])
    assert PLACEMENTS["plain"] in seen and PLACEMENTS["pre_norm"] in seen


def test_moving_a_slider_shows_the_picture_of_that_position():
    explorer = explore(experiment, draw, depth=(1, 20), gain=(0.2, 2.0, 0.1))
    before = explorer.image.value
    explorer.controls["depth"].widget.value = 12
    expected = Explorer(lambda: experiment(depth=12), draw).image.value
    wait_for(lambda: explorer.image.value != before)
    assert np.array_equal(picture(explorer.image.value), picture(expected))


def test_neighbours_are_drawn_ahead_and_then_only_sent(monkeypatch, unhurried):
    calls = []

    def counted(depth=5):
        calls.append(depth)
        return experiment(depth)

    explorer = explore(counted, draw, depth=(1, 20))
    wait_for(lambda: len(explorer._cache) == 20)
    assert calls[:9] == [5, *(5 + step for step in module.AHEAD)] and sorted(calls) == [*range(1, 21)]
    monkeypatch.setattr(explorer, "_frame", None)  # nothing is left to draw
    explorer.controls["depth"].widget.value = 7  # position 6
    assert explorer.image.value == explorer._cache[explorer._key((6,))]  # at once, in the callback itself


def test_moving_fast_shows_the_last_position_and_skips_what_lies_between(monkeypatch):
    monkeypatch.setattr(module, "AHEAD", ())
    monkeypatch.setattr(module, "AXIS_SECONDS", 0.0)
    calls, go_on = [], threading.Event()

    def held(depth=1):
        calls.append(depth)
        assert depth == 1 or go_on.wait(100)
        return experiment(depth)

    explorer = explore(held, draw, depth=(1, 60))
    explorer.controls["depth"].widget.value = 2
    wait_for(lambda: calls == [1, 2])
    for depth in range(3, 61):
        explorer.controls["depth"].widget.value = depth
    go_on.set()
    wait_for(lambda: explorer.image.value == explorer._cache.get(explorer._key((59,))))
    assert calls == [1, 2, 60]


def test_every_position_has_the_value_that_the_slider_shows():
    seen = []

    def record(depth=5):
        seen.append(depth)
        return experiment(depth)

    control = explore(record, draw, depth=(1, 100, 10)).controls["depth"]
    assert control.count == 10 and control.at(control.count - 1) == 91
    assert control.widget.value in {control.at(i) for i in range(control.count)} and seen[0] == control.widget.value
    slider = explore(lambda gain=1.4: experiment(3, gain), draw, gain=(0, 2)).controls["gain"].widget
    assert isinstance(slider, ipywidgets.FloatSlider) and slider.value == pytest.approx(1.4)


def test_a_message_about_a_position_that_was_left_does_not_stay(monkeypatch):
    monkeypatch.setattr(module, "AHEAD", ())
    go_on = threading.Event()

    def held_or_broken(depth=5):
        assert depth < 15 or go_on.wait(100)
        if depth == 20:
            raise ValueError("never mind")
        return experiment(depth)

    explorer = explore(held_or_broken, draw, depth=(1, 20))
    for far in (19, 20):
        go_on.clear()
        explorer.controls["depth"].widget.value = far
        wait_for(lambda: "computing" in explorer.status.value)
        explorer.controls["depth"].widget.value = 5  # drawn long ago
        assert explorer.status.value == ""
        go_on.set()
        wait_for(lambda: not studio.waiting)
        assert explorer.status.value == ""
        assert explorer.image.value == explorer._cache[explorer._key((4,))]


def test_a_language_change_during_an_experiment_does_not_mix_the_words():
    begun, go_on = threading.Event(), threading.Event()

    def held(depth=5):
        if depth == 17:
            begun.set()
            assert go_on.wait(100)
        return experiment(depth)

    i18n.set_language("zh")
    explorer = explore(held, draw, depth=(1, 20))
    explorer.controls["depth"].widget.value = 17
    assert begun.wait(100)
    i18n.set_language("en")
    go_on.set()
    wait_for(lambda: ("en", "light", (16,)) in explorer._cache)
    expected = Explorer(lambda: experiment(17), draw).image.value
    assert np.array_equal(picture(explorer._cache["en", "light", (16,)]), picture(expected))
    zh = explorer._cache.get(("zh", "light", (16,)))
    assert zh is None or zh != explorer._cache["en", "light", (16,)]


def test_an_exception_is_shown_and_the_sliders_go_on_working():
    def fragile(depth=1):
        if depth == 15:
            raise ArithmeticError("fifteen <is> too much")
        return experiment(depth)

    explorer = explore(fragile, draw, depth=(1, 20))
    explorer.controls["depth"].widget.value = 15
    wait_for(lambda: "ArithmeticError" in explorer.status.value)
    assert "fifteen &lt;is&gt; too much" in explorer.status.value and "depth = 15" in explorer.status.value
    before = explorer.image.value
    explorer.controls["depth"].widget.value = 18
    wait_for(lambda: explorer.image.value != before and explorer.status.value == "")
    with pytest.raises(ArithmeticError):
        explorer.render(depth=15)


def test_a_slow_experiment_says_that_it_is_busy():
    go_on = threading.Event()
    explorer = explore(lambda depth=1: experiment(depth + go_on.wait(100 * (depth > 15))), draw, depth=(1, 20))
    explorer.controls["depth"].widget.value = 19
    wait_for(lambda: "computing" in explorer.status.value)
    go_on.set()
    wait_for(lambda: explorer.status.value == "")


def test_the_reset_button_goes_back_to_the_start():
    explorer = explore(experiment, draw, depth=(1, 20), placement=["plain", "residual"])
    control = explorer.controls["depth"]
    control.widget.value = 13
    control.reset.click()
    assert control.widget.value == 5


def test_the_language_changes_labels_options_and_pictures_but_no_value():
    explorer = explore(experiment, draw, depth=(1, 20), placement=["plain", "residual"])
    explorer.controls["placement"].widget.value = "residual"
    pictures = set()
    for code, depth, option in (
        ("zh", "层数", "残差"),
        ("en", "depth", "residual"),
        ("both", "层数 depth", "残差 residual"),
    ):
        before = explorer.image.value
        i18n.set_language(code)
        wait_for(lambda before=before: explorer.image.value != before)
        pictures.add(explorer.image.value)
        assert explorer.controls["depth"].widget.description.startswith(depth)
        assert explorer.controls["placement"].widget.options[1][0] == option
        assert explorer.controls["placement"].widget.value == "residual"
    assert len(pictures) == 3


def test_what_a_cell_shows_has_a_picture_and_words_for_readers_without_a_kernel():
    explorer = explore(experiment, draw, depth=(1, 20))
    bundle, metadata = explorer._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.widget.model_id
    assert picture(base64.b64decode(bundle["image/png"])).std() > 5
    assert "6 of them" in metadata["image/png"]["alt"] and "共 6 个" in metadata["image/png"]["alt"]


def test_only_so_many_frames_are_kept(monkeypatch):
    monkeypatch.setattr(module, "FRAMES_KEPT", 5)
    explorer = explore(experiment, draw, depth=(1, 20))
    for depth in range(1, 21):
        explorer.render(depth=depth)
    assert len(explorer._cache) <= 5


@pytest.mark.parametrize(
    ("controls", "error", "message"),
    [
        ({"depth": (5, 5)}, ValueError, r"depth is \(5, 5\), an empty range"),
        ({"depth": (9, 1)}, ValueError, "empty range; expected min < max"),
        ({"depth": (1, 20, 0)}, ValueError, "0 < step"),
        ({"placement": []}, ValueError, "empty choice"),
        ({"placement": ["pre_norm"]}, ValueError, "starts at 'plain', which is not one of its choices"),
        ({"depth": (10, 20)}, ValueError, r"depth starts at 5, outside its range \(10, 20\)"),
        ({"depth": "deep"}, TypeError, r"depth is 'deep'; a control is \(min, max\)"),
        ({"depth": (1, "x")}, TypeError, "all numbers"),
        ({"deep": (1, 5)}, ValueError, "no parameter 'deep'; it has depth, gain, placement"),
        ({"depth": ipywidgets.Text("5")}, TypeError, "depth is a Text"),
    ],
)
def test_impossible_controls_are_refused_with_what_was_expected(controls, error, message):
    with pytest.raises(error, match=message):
        explore(experiment, draw, **controls)


def test_what_explore_refuses_is_said_in_both_languages():
    with pytest.raises(ValueError, match=r"范围是空的(.|\n)*an empty range"):
        explore(experiment, draw, depth=(5, 5))
    i18n.set_language("zh")
    try:
        with pytest.raises(ValueError, match=r"^没有控件 'width'；控件有 depth$"):
            explore(experiment, draw, depth=(1, 20)).render(width=3)
    finally:
        i18n.set_language("both")


def test_an_experiment_that_returns_no_frame_or_misses_a_control_is_refused():
    with pytest.raises(TypeError, match="returned list; explore needs a pandas DataFrame"):
        explore(lambda depth=3: [1, 2], draw, depth=(1, 5))
    with pytest.raises(ValueError, match="needs 'width', but no control gives it"):
        explore(lambda width: None, draw)
    with pytest.raises(ValueError, match="placement = 'pre' is not one of"):
        explore(experiment, draw, placement=["plain"]).render(placement="pre")
    with pytest.raises(ValueError, match="no control 'width'; the controls are depth"):
        explore(experiment, draw, depth=(1, 20)).render(width=3)


def test_values_outside_the_axes_are_marked_and_not_lost():
    figure, ax = canvas.new_figure()
    frame = pd.DataFrame({"layer": range(5), "value": [1.0, 0.0, float("nan"), 1e9, 1.0]})
    canvas.redraw(figure, draw, frame)
    marks = {line.get_marker(): line.get_xdata().tolist() for line in ax.lines if line.get_visible()}
    assert marks["v"] == [1.0] and marks["x"] == [2.0] and marks["^"] == [3.0]


def test_drawing_again_leaves_nothing_of_the_picture_before():
    def messy(frame, ax):
        draw(frame, ax)
        if len(frame) > 10:
            ax.plot([1, 2], [1, 1])
            ax.axvline(3)
            ax.text(1, 1, "x")
            ax.fill_between([1, 2], [1, 1], [2, 2])
            ax.legend(["a"])

    used, _ = canvas.new_figure()
    fresh, _ = canvas.new_figure()
    for depth in (15, 3):
        canvas.redraw(used, messy, experiment(depth))
    canvas.redraw(fresh, messy, experiment(3))
    assert np.array_equal(picture(canvas.png(used)), picture(canvas.png(fresh)))


def bars(frame, ax):
    ax.bar(frame["layer"], frame["value"], label="bars")
    ax.legend()


def messy_axes(frame, ax):
    ax.plot([1, 2], [2, 1], label="a")
    ax.set(facecolor="black", aspect="equal", xticks=[1, 2], title="x")
    ax.invert_yaxis()
    ax.spines["left"].set(visible=False, linewidth=7)
    ax.tick_params(axis="x", rotation=60, colors="red")
    ax.minorticks_on()
    ax.margins(0.4)
    ax.xaxis.set_label_position("top")
    ax.yaxis.set_visible(False)
    ax.grid(False)
    ax.patch.set_alpha(0.3)


def messy_figure(frame, ax):
    image = ax.imshow(np.arange(6).reshape(2, 3))
    ax.figure.colorbar(image, ax=ax)
    ax.inset_axes([0.5, 0.5, 0.4, 0.4]).plot([1, 2])
    ax.twinx().plot([3, 4], color="red")
    ax.secondary_xaxis("top")
    ax.figure.suptitle("over all")
    ax.figure.text(0.5, 0.5, "words")
    ax.figure.add_artist(matplotlib.lines.Line2D([0, 1], [0, 1]))
    ax.figure.legend(["a"])
    ax.figure.set_facecolor("yellow")
    ax.figure.add_axes([0.7, 0.7, 0.2, 0.2])
    ax.figure.subplots_adjust(left=0.3)
    ax.figure.set_size_inches(3, 3)


def hidden_axes(frame, ax):
    ax.set_axis_off()
    ax.set_position([0.4, 0.4, 0.2, 0.2])
    ax.set_xscale("log")
    ax.set_yscale("symlog")
    ax.axhline(3)


def plain_axes(frame, ax):
    ax.plot(frame["layer"], frame["value"])
    ax.scatter(frame["layer"], frame["value"])


@pytest.mark.slow
@pytest.mark.parametrize("before", [bars, messy_axes, messy_figure, hidden_axes, plain_axes, draw])
def test_a_picture_drawn_after_another_is_that_of_a_new_figure(before):
    for now in (plain_axes, bars, draw):
        used, _ = canvas.new_figure()
        fresh, _ = canvas.new_figure()
        for function in (before, before, now):
            canvas.redraw(used, function, experiment(5))
            shown = canvas.png(used)
        canvas.redraw(fresh, now, experiment(5))
        assert np.array_equal(picture(shown), picture(canvas.png(fresh))), now.__name__


def test_several_axes_in_a_grid_are_as_new_too():
    def panels(frame, axes):
        for ax in axes:
            draw(frame, ax)

    def messy_panels(frame, axes):
        messy_axes(frame, axes[0])
        axes[1].figure.colorbar(axes[1].imshow([[1, 2]]), ax=list(axes))

    layout = {"size": (9.2, 4.2), "ncols": 2, "gridspec_kw": {"wspace": 0.05, "right": 0.9}, "sharey": True}
    used, fresh = canvas.new_figure(**layout)[0], canvas.new_figure(**layout)[0]
    for function in (messy_panels, panels):
        canvas.redraw(used, function, experiment(5))
        shown = canvas.png(used)
    canvas.redraw(fresh, panels, experiment(5))
    assert np.array_equal(picture(shown), picture(canvas.png(fresh)))


@pytest.mark.parametrize("style", ["seaborn", "dark_background", "xkcd", "one by one"])
def test_no_style_of_the_learners_reaches_a_picture_and_none_is_changed_by_it(style):
    def look():
        figure, _ = canvas.new_figure()
        canvas.redraw(figure, bars, experiment(5))
        return picture(canvas.png(figure))

    expected = look()
    with matplotlib.rc_context():
        if style == "seaborn":
            seaborn.set_theme()
        elif style == "xkcd":
            pyplot.xkcd()
        elif style == "one by one":
            matplotlib.rcParams.update({"font.size": 30, "axes.grid": False, "axes.prop_cycle": "cycler('color', 'r')"})
        else:
            pyplot.style.use(style)
        set_before = {name: repr(value) for name, value in matplotlib.rcParams.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.array_equal(look(), expected)
        assert {name: repr(value) for name, value in matplotlib.rcParams.items()} == set_before


def test_labels_at_line_ends_do_not_cover_each_other():
    def many(frame, ax):
        canvas.setup(ax, ("x", "x"), ("y", "y"), (0, 1), (0, 1))
        for i in range(5):
            canvas.curve(ax, i, [0, 1], [0.98 + i / 300] * 2, f"名{i}\nname {i}")

    figure, ax = canvas.new_figure()
    canvas.redraw(figure, many, None)
    canvas.png(figure)
    boxes = sorted((t.get_window_extent() for t in ax.texts if t.get_visible()), key=lambda b: b.y0)
    assert len(boxes) == 5
    assert all(lower.y1 <= upper.y0 + 1 for lower, upper in itertools.pairwise(boxes))
    assert boxes[-1].y1 <= figure.bbox.height and boxes[0].y0 >= 0


def test_numbers_read_as_one_would_write_them():
    numbers = [0.00042, 1.0, 12.34, 0, 3.1e15, 2.04e-21, -0.5, float("inf"), float("nan"), 9.97e-5]
    expected = ["0.00042", "1.0", "12", "0", "3.1×10¹⁵", "2.0×10⁻²¹", "−0.50", "∞", "nan", "1.0×10⁻⁴"]
    assert [canvas.number(n) for n in numbers] == expected


def test_figures_have_chinese_whatever_fonts_are_installed():
    assert matplotlib.rcParams["font.family"][0] == "NormCourse Sans"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure, ax = canvas.new_figure()
        ax.set_title("层归一化残差连接梯度消失爆炸雅可比矩阵奇异值退化缩放平移 γ β σ √ ≤ × · 10⁻²¹ − $g^N$ 层")
        canvas.png(figure)


# --- values are the values ---------------------------------------------------------------------------------------------


def told(**controls):
    """An explorer over `controls` and the list of the values its experiment has met."""
    met = []

    def remember(**values):
        met.append(values)
        return experiment(len(met) % 7)

    return explore(remember, draw, **controls), met


@pytest.mark.parametrize(
    "values",
    [
        [torch.zeros(3), torch.ones(3), torch.zeros(3)],
        [np.zeros(2), np.zeros(3), torch.zeros(())],
        [pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})],
        [1, True, 1.0, np.int64(1)],
        [None, 0, float("nan"), [1, 2]],
    ],
    ids=["tensors", "arrays", "frames", "equal values", "mixed"],
)
def test_a_choice_is_the_very_object_whatever_it_compares_as(values):
    explorer, met = told(choice={f"choice {i}": value for i, value in enumerate(values)})
    control = explorer.controls["choice"]
    for i in (*range(1, len(values)), 0):
        frontend(control.widget, index=i)
        wait_for(lambda i=i: any(m["choice"] is values[i] for m in met))
        assert control.position() == explorer._wanted[0] == i and control.label(i) == f"choice {i}"
    i18n.set_language("zh")
    assert control.position() == 0
    frontend(control.widget, index=1)
    control.reset.click()
    assert control.position() == 0


def test_a_default_among_tensors_is_found_by_identity():
    zeros, ones = torch.zeros(3), torch.ones(3)
    explorer = explore(lambda w=ones: experiment(int(w.sum())), draw, w=[zeros, ones])
    assert explorer.controls["w"].position() == 1
    assert explorer.render(w=zeros) != explorer.render(w=ones)


def test_numpy_numbers_make_the_same_sliders_as_numbers():
    explorer, met = told(
        a=(np.int64(1), np.int32(9)), b=(np.float32(0), np.float64(1)), c=(np.int64(1), 5, np.int64(2))
    )
    a, b, c = (control.widget for control in explorer.controls.values())
    assert [type(w) for w in (a, b, c)] == [ipywidgets.IntSlider, ipywidgets.FloatSlider, ipywidgets.IntSlider]
    assert type(met[0]["a"]) is int and type(met[0]["b"]) is float and (c.min, c.max, c.step) == (1, 5, 2)


def test_steps_far_below_one_and_far_from_zero_reach_the_experiment():
    explorer, met = told(eps=(0.0, 1e-11, 1e-12), big=(1e6, 1e6 + 1, 0.1), around=(-0.3, 0.3, 0.1))
    controls = explorer.controls
    assert [controls["eps"].at(i) for i in range(4)] == [0, 1e-12, 2e-12, 3e-12] and controls["eps"].count == 11
    assert controls["big"].at(3) == 1000000.3 and controls["around"].at(3) == 0.0 and controls["around"].at(1) == -0.2
    explorer.render(eps=7e-12)
    assert any(m["eps"] == 7e-12 for m in met)


def test_parameters_may_be_called_as_the_arguments_of_explore():
    names = ["size", "draw", "experiment", "subplots", "self", "controls", "name", "position"]
    space = {"experiment_of_this_file": experiment}
    exec(f"def named({', '.join(f'{n}=3' for n in names)}): return experiment_of_this_file({' + '.join(names)})", space)
    explorer = explore(space["named"], draw, **dict.fromkeys(names, (2, 9)))
    assert set(explorer.controls) == set(names) and tuple(explorer.figure.get_size_inches()) == (7.6, 4.2)
    assert explorer.render(**dict.fromkeys(names, 4)) != explorer.image.value
    assert tuple(explore(experiment, draw, size=(5, 3), depth=(1, 9)).figure.get_size_inches()) == (5, 3)


# --- the pictures in the browser --------------------------------------------------------------------------------------


def in_browser(explorer, number):
    """The picture on top where the linked control has this number: as the browser's `Tab` finds it."""
    kind, _, picture = bytes(explorer._reel.tab.children[number].value).partition(b",")
    return base64.b64decode(picture) if kind == b"data:image/png;base64" else None


def sign(explorer, number):
    """What the browser says where the linked control has this number; None where it shows a picture, or the live one
    through a transparent pixel."""
    kind, _, drawing = bytes(explorer._reel.tab.children[number].value).partition(b",")
    return base64.b64decode(drawing).decode() if kind == b"data:image/svg+xml;base64" else None


def arrived(explorer):
    """How many pictures the browser finds."""
    return len({child for n, child in enumerate(explorer._reel.tab.children) if in_browser(explorer, n)})


def linked(explorer):
    widget, trait = explorer._reel.link.source
    assert explorer._reel.link.target == (explorer._reel.tab, "selected_index")
    return widget, trait


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((1, 9), {v: v for v in range(1, 10)}),
        ((3, 15, 4), {0: 3, 1: 7, 2: 11, 3: 15}),
        ((-2, 3), {i: i - 2 for i in range(6)}),
        ((0.2, 1.0, 0.2), {0: 0.2, 1: 0.4, 2: 0.6, 3: 0.8, 4: 1.0}),
        ({"a": 2, "b": 5}, {0: 2, 1: 5}),
        ((1000, 1005), {i: 1000 + i for i in range(6)}),
    ],
    ids=["integers", "steps of 4", "from below zero", "floats", "choices", "far from zero"],
)
def test_the_browser_finds_every_position_at_the_number_of_its_control(values, shown, unhurried):
    def line(frame, ax):
        ax.set_title(f"{frame['value'][0]:.3f}")

    explorer = explore(lambda x: pd.DataFrame({"value": [x]}), line, x=values)
    wait_for(lambda: all(in_browser(explorer, number) for number in shown))
    widget, trait = linked(explorer)
    figure, _ = canvas.new_figure()
    for number, value in shown.items():
        canvas.redraw(figure, line, pd.DataFrame({"value": [value]}))
        assert np.array_equal(picture(in_browser(explorer, number)), picture(canvas.png(figure)))
        frontend(widget, **{trait: number})  # the kernel hears of the same position
        assert explorer.controls["x"].at(explorer._wanted[0]) == value
        assert explorer.image.value == in_browser(explorer, number)


def test_where_no_picture_is_the_browser_says_so_but_not_over_the_one_that_is_there(monkeypatch, unhurried):
    monkeypatch.setattr(studio, "cell_runs", True)  # nothing is drawn ahead for the moment
    explorer = explore(experiment, draw, depth=(1, 6), gain=(0.5, 1.5, 0.5))
    widget, _ = linked(explorer)
    assert sign(explorer, widget.value) is None and arrived(explorer) == 0
    assert all("computing" in sign(explorer, n) for n in range(1, 7) if n != widget.value)
    for depth in (6, 2):
        frontend(widget, value=depth)
        wait_for(lambda d=depth: explorer.image.value == explorer.render(depth=d))
        wait_for(lambda d=depth: sign(explorer, d) is None)
    frontend(explorer.controls["gain"].face, index=2)
    wait_for(lambda: sign(explorer, 2) is None)
    assert "computing" in sign(explorer, 0) and linked(explorer) == (explorer.controls["gain"].face, "index")
    i18n.set_language("en")
    assert "计算中" not in sign(explorer, 0)
    studio._cell(runs=False)
    wait_for(lambda: arrived(explorer) == 3)
    assert [sign(explorer, n) for n in range(3)] == [None] * 3


def test_a_slider_of_floats_and_its_face_in_the_browser_go_together():
    explorer = explore(experiment, draw, gain=(0.2, 2.0, 0.1))
    control = explorer.controls["gain"]
    face = control.panel.children[0]
    assert [label for label, _ in face.options][:3] == ["0.2", "0.3", "0.4"] and face.label == "1.0"
    assert face.description == control.widget.description and face.layout.width == control.widget.layout.width
    control.widget.value = 0.5
    assert face.index == 3
    frontend(face, index=18)
    assert control.widget.value == 2.0
    control.reset.click()
    assert face.label == "1.0"
    i18n.set_language("zh")
    assert face.description == control.widget.description == "增益 g"


def test_after_a_move_on_another_control_no_picture_of_before_is_found(monkeypatch, unhurried):
    explorer = explore(experiment, draw, depth=(1, 6), gain=(0.5, 1.5, 0.5), placement=["plain", "residual"])
    assert linked(explorer) == (explorer.controls["depth"].widget, "value")
    wait_for(lambda: arrived(explorer) == 6)
    before, widgets = {in_browser(explorer, n) for n in range(1, 7)}, set(ipywidgets.Widget.widgets)
    monkeypatch.setattr(studio, "cell_runs", True)  # nothing is drawn ahead for the moment
    explorer.controls["gain"].widget.value = 1.5
    assert arrived(explorer) == 0 and set(ipywidgets.Widget.widgets) == widgets
    assert linked(explorer) == (explorer.controls["gain"].face, "index")
    studio._cell(runs=False)
    wait_for(lambda: arrived(explorer) == 3)
    assert before & {in_browser(explorer, n) for n in range(3)} == {explorer.render(gain=1.0)}
    i18n.set_language("en")
    assert arrived(explorer) == 0
    wait_for(lambda: arrived(explorer) == 3)
    assert in_browser(explorer, 2) == explorer.render(gain=1.5) == explorer.image.value


def test_a_checkbox_goes_through_the_kernel_and_the_slider_is_followed_still(unhurried):
    explorer = explore(
        lambda depth=3, more=False: experiment(depth + 5 * more), draw, more=ipywidgets.Checkbox(), depth=(1, 6)
    )
    wait_for(lambda: arrived(explorer) == 6)
    explorer.controls["more"].widget.value = True
    assert arrived(explorer) == 0 and linked(explorer) == (explorer.controls["depth"].widget, "value")
    wait_for(lambda: arrived(explorer) == 6)
    assert in_browser(explorer, 3) == explorer.image.value == explorer.render(more=True, depth=3)


def test_the_bytes_in_the_browser_are_bounded_and_the_nearest_go_first(monkeypatch, unhurried):
    explorer = explore(experiment, draw, depth=(1, 20))
    one = len(explorer.image.value)
    explorer.close()
    monkeypatch.setattr(module.reel, "BYTES_SENT", 4 * one)
    explorer = explore(experiment, draw, depth=(1, 20), gain=(0.5, 1.5, 0.5))
    wait_for(lambda: not any(studio.plans[explorer]) and not explorer._under_way)
    sent = explorer._reel.sent
    assert 4 * one < sum(len(address) for address, _ in sent.values()) < 6 * one
    nearest = [4 + step for step in (0, *module.AHEAD)]  # depth 5 is position 4
    assert set(sent) == set(nearest[: len(sent)]) and len(explorer._cache) >= 20


def test_every_picture_says_what_it_shows(unhurried):
    explorer = explore(experiment, draw, depth=(1, 6))
    wait_for(lambda: arrived(explorer) == 6)
    shown = [image.tooltip for image in explorer._reel.pictures if bytes(image.value).startswith(b"data:image/png")]
    assert explorer.image.tooltip == explorer.alt in shown and len({*shown}) == len(shown) > 1
    waiting = {image.tooltip for image in explorer._reel.pictures if bytes(image.value).startswith(b"data:image/svg")}
    assert waiting <= {module.reel._sign()[1]}
    explorer.controls["depth"].widget.value = 6
    wait_for(lambda: explorer.image.value == explorer.render(depth=6))
    assert explorer.image.tooltip == explorer._cache[explorer._key((5,))].alt != explorer.alt


def test_a_closed_explorer_lets_go_of_the_pictures_in_the_browser(unhurried):
    before = set(ipywidgets.Widget.widgets)
    explorer = explore(experiment, draw, depth=(1, 6), gain=(0.5, 1.5, 0.5), placement=["plain", "residual"])
    wait_for(lambda: arrived(explorer) == 6)
    explorer.close()
    assert set(ipywidgets.Widget.widgets) <= before


def test_while_a_cell_of_the_learners_runs_nothing_is_begun_ahead(monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell

    shell, fresh = InteractiveShell(), type(studio)()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    fresh.open()
    try:
        for code in ("met.append(studio.cell_runs)", "met.append(studio.cell_runs); raise SystemExit"):
            shell.user_ns |= {"studio": fresh, "met": (met := [])}
            shell.run_cell(code)
            assert met == [True] and not fresh.cell_runs
    finally:
        fresh.close()
    fresh.plans["explorer"] = [1], [2]
    assert fresh._next_plan()[:2] == ("explorer", [1])
    fresh._cell(runs=True)
    assert fresh._next_plan() == (None, None, None)


def test_without_a_stack_everything_goes_through_the_kernel(monkeypatch):
    monkeypatch.delattr(ipywidgets, "Stack")  # as in ipywidgets 7
    explorer = explore(experiment, draw, depth=(1, 20), gain=(0.2, 2.0, 0.1))
    assert explorer.widget.children[2] is explorer.image
    assert explorer.controls["gain"].panel.children[0] is explorer.controls["gain"].widget
    before = explorer.image.value
    frontend(explorer.controls["gain"].widget, value=0.3)
    wait_for(lambda: explorer.image.value != before)


# --- Colab ------------------------------------------------------------------------------------------------------------


def frontend(widget, **state):
    """What the browser sends when a control moves, handled as the kernel does."""
    data = {"method": "update", "state": state, "buffer_paths": []}
    widget._handle_msg({"content": {"data": data}, "buffers": []})


@pytest.fixture
def colab(monkeypatch):
    """Colab by its module; yields the names of the threads that sent something to the front end."""
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    senders = []
    monkeypatch.setattr(ipywidgets.Widget, "_send", lambda *_, **__: senders.append(threading.current_thread()))
    return senders


def only_from_here(senders, explorer):
    """Wait until the threads have done what they planned, and see who sent."""
    wait_for(lambda: not studio.waiting and not studio.requests and not studio.plans[explorer][0])
    wait_for(lambda: not explorer._under_way)
    assert set(senders) <= {threading.current_thread()}


def test_in_colab_the_picture_has_changed_when_the_handler_of_a_control_returns(colab):
    explorer = explore(
        lambda depth=5, gain=1.0, linear=False, placement="plain", power=0.1, kind="a": experiment(
            depth + 2 * linear + (placement == "residual") + 2 * (kind == "b"), gain * 10**power
        ),
        draw,
        depth=(1, 20),
        gain=(0.2, 2.0, 0.1),
        linear=False,
        placement=["plain", "residual"],
        power=ipywidgets.FloatLogSlider(value=0.1, min=-3, max=0, step=0.5),
        kind=ipywidgets.RadioButtons(options=["a", "b"]),
    )
    moves = [("depth", {"value": 17}), ("gain", {"value": 0.3}), ("linear", {"value": True})]
    moves += [("placement", {"index": 1}), ("power", {"value": 1e-3}), ("kind", {"index": 1})]
    for name, state in moves:
        before = explorer.image.value
        frontend(explorer.controls[name].widget, **state)
        assert explorer.image.value != before, name
        assert explorer.image.value == explorer._cache[explorer._key(explorer._position())]
    before = explorer.image.value
    click = {"method": "custom", "content": {"event": "click"}}
    explorer.controls["depth"].reset._handle_msg({"content": {"data": click}, "buffers": []})
    assert explorer.image.value != before and explorer.controls["depth"].widget.value == 5
    only_from_here(colab, explorer)


def test_in_colab_errors_business_and_languages_are_sent_before_the_handler_returns(colab, monkeypatch):
    def fragile(depth=5):
        if depth == 15:
            raise SystemExit("fifteen")
        return experiment(depth)

    explorer, switch = explore(fragile, draw, depth=(1, 20)), i18n.language_switch()
    depth, said = explorer.controls["depth"].widget, []
    explorer.status.observe(lambda change: said.append(change["new"]), names="value")
    frontend(depth, value=15)
    assert "SystemExit: fifteen" in explorer.status.value
    frontend(depth, value=19)
    assert explorer.status.value == ""
    explorer._seconds, said[:] = 10.0, []  # as if pictures were slow
    frontend(depth, value=12)
    assert "computing" in said[0] and explorer.status.value == ""
    before = explorer.image.value
    frontend(switch.buttons, index=1)
    assert explorer.image.value == explorer._cache["en", "light", (11,)] != before and depth.description == "depth"
    only_from_here(colab, explorer)


def test_in_colab_a_move_to_a_position_that_a_thread_is_drawing_waits_for_it(colab, monkeypatch):
    monkeypatch.setattr(module, "AHEAD_SECONDS", 1e6)
    begun, go_on = threading.Event(), threading.Event()

    def held(depth=5):
        if depth == 6:
            begun.set()
            assert go_on.wait(100)
        return experiment(depth)

    explorer = explore(held, draw, depth=(1, 20))
    assert begun.wait(100)
    threading.Timer(0.1, go_on.set).start()
    frontend(explorer.controls["depth"].widget, value=6)
    assert explorer.image.value == explorer._cache[explorer._key((5,))]
    only_from_here(colab, explorer)


# --- the end ----------------------------------------------------------------------------------------------------------


class Shell:
    """What a notebook's kernel says about the cell that runs."""

    def __init__(self, monkeypatch):
        self.message, self.runs = {}, itertools.count()
        monkeypatch.setattr("IPython.get_ipython", lambda: self)

    def run(self, cell, metadata="cellId"):
        metadata = {"cellId": cell} if metadata == "cellId" else {"colab": {"cell_id": cell}}
        self.message = {"header": {"msg_id": f"run {next(self.runs)}"}, "metadata": metadata}

    def get_parent(self):
        return self.message


@pytest.mark.slow
@pytest.mark.parametrize("metadata", ["cellId", "colab"])
def test_a_cell_that_runs_again_frees_the_explorer_of_its_last_run(monkeypatch, metadata):
    shell, sent = Shell(monkeypatch), []
    before = set(ipywidgets.Widget.widgets)
    shell.run("one", metadata)
    first, second = explore(experiment, draw, depth=(1, 20)), explore(experiment, draw, placement=["plain"])
    switch = i18n.language_switch()
    shell.run("two", metadata)
    other = explore(experiment, draw, depth=(1, 20))
    assert not (first.closed or second.closed or other.closed or switch.closed)
    shell.run("one", metadata)
    again = explore(experiment, draw, depth=(1, 20))
    assert first.closed and second.closed and switch.closed and not other.closed and not again.closed
    first.image.observe(lambda change: sent.append(change), names="value")
    i18n.set_language("en")
    wait_for(lambda: again.image.value == again._cache.get(again._key((4,))))
    assert not sent and not first._cache and first.render(depth=7)
    gone = [weakref.ref(x) for x in (first, second, switch, first.figure)]
    del first, second, switch
    gc.collect()
    wait_for(lambda: gc.collect() is not None and not any(x() for x in gone))
    again.close()
    other.close()
    again.close()  # twice is once
    assert set(ipywidgets.Widget.widgets) <= before


def test_a_closed_explorer_shows_its_picture_and_no_widget():
    explorer = explore(experiment, draw, depth=(1, 20))
    explorer.close()
    bundle, _ = explorer._repr_mimebundle_()
    assert set(bundle) == {"image/png", "text/plain"}


def test_a_widget_of_the_learners_own_outlives_the_explorer_that_it_moved():
    slider = ipywidgets.IntSlider(5, 1, 20)
    first, second = (explore(experiment, draw, depth=slider) for _ in range(2))
    first.close()
    before = second.image.value
    slider.value = 11
    wait_for(lambda: second.image.value != before)
    assert slider.comm is not None


@pytest.mark.slow
def test_an_explorer_that_is_drawn_while_it_is_closed_is_let_go_of():
    begun, go_on = threading.Event(), threading.Event()

    def held(depth=5):
        if depth == 17:
            begun.set()
            assert go_on.wait(100)
        return experiment(depth)

    explorer = explore(held, draw, depth=(1, 20))
    explorer.controls["depth"].widget.value = 17
    assert begun.wait(100)
    explorer.close()
    gone = weakref.ref(explorer)
    del explorer
    go_on.set()
    wait_for(lambda: gc.collect() is not None and gone() is None)


# --- what belongs to one thread ---------------------------------------------------------------------------------------


def test_every_picture_finds_the_state_of_the_cell_that_made_the_explorer(monkeypatch):
    met, variable = [], contextvars.ContextVar("variable", default="outside")

    def look(depth=5):
        met.append((torch.ones(1).device.type, torch.is_grad_enabled(), np.geterr()["over"], variable.get()))
        return experiment(depth)

    token = variable.set("here")
    with torch.device("meta"), torch.no_grad(), np.errstate(over="raise"):
        explorer = explore(look, draw, depth=(1, 20))
    variable.reset(token)
    wait_for(lambda: len(met) > 2)
    explorer.render(depth=19)
    assert set(met) == {("meta", False, "raise", "here")}
    explorer.close()
    wait_for(lambda: not explorer._under_way)
    with torch.device("meta"):  # and the other way round
        met.clear()
        Explorer(look, draw).close()
        assert set(met) == {("meta", True, "warn", "outside")} and torch.ones(1).device.type == "meta"


def test_what_an_experiment_prints_away_from_its_cell_appears_nowhere(capsys):
    def noisy(depth=5):
        print("depth", depth)
        print("depth", depth, file=sys.stderr)
        warnings.warn(f"depth {depth}", stacklevel=1)
        return experiment(depth)

    explorer = explore(noisy, draw, depth=(1, 20))
    out, err = capsys.readouterr()
    assert out == "depth 5\n" and "depth 5" in err
    explorer.controls["depth"].widget.value = 17
    wait_for(lambda: explorer._key((16,)) in explorer._cache)
    print("the learner's")
    assert capsys.readouterr() == ("the learner's\n", "")
    explorer.render(depth=12)
    assert capsys.readouterr().out == "depth 12\n"  # whoever asks for it here may read it here


def test_an_experiment_that_wants_to_exit_stops_no_thread(monkeypatch):
    monkeypatch.setattr(module, "AHEAD_SECONDS", 1e6)

    def leaving(depth=5):
        if depth in (6, 7, 15):
            raise SystemExit
        return experiment(depth)

    explorer = explore(leaving, draw, depth=(1, 20))
    wait_for(lambda: explorer._key((3,)) in explorer._cache)  # depth 4 is planned after 6 and 7
    explorer.controls["depth"].widget.value = 15
    wait_for(lambda: "SystemExit" in explorer.status.value)
    explorer.controls["depth"].widget.value = 18
    wait_for(lambda: explorer.status.value == "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["normcourse.explore", "normcourse.fused"])
def test_an_import_leaves_the_process_as_it_was(name):
    code = f"""
import os, threading, torch
torch.set_num_threads(3)
before = dict(os.environ)
import {name}
assert torch.get_num_threads() == 3, torch.get_num_threads()
assert before == dict(os.environ), set(before.items()) ^ set(os.environ.items())
assert threading.active_count() == 1
"""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- every explorer of every notebook ---------------------------------------------------------------------------------


@functools.cache
def explorers_of(source):
    """Run a notebook's code here and collect its explorers, in order."""
    found, space = [], {"__name__": "notebook"}
    for cell in read(source).cells:
        if cell.cell_type == "code" and cell.id != "install":
            *body, last = compile_cell(cell.source)
            exec(body[0], space)
            value = eval(last, space) if last is not None else None
            if isinstance(value, Explorer):
                value.close()  # it renders, and nothing is drawn ahead
                found.append(value)
    return found


def compile_cell(code):
    import ast

    tree, name = ast.parse(code), f"<cell {zlib.crc32(code.encode())}>"
    linecache.cache[name] = len(code), None, code.splitlines(keepends=True), name  # Triton reads the source
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    return compile(tree, name, "exec"), compile(last, name, "eval") if last else None


EVERY_DAY = ("01", "04")  # of the lessons; pictures of all are looked at in test_pictures, and nbval runs them
NUMBERED = [
    pytest.param(source, number, marks=[] if name[:2] in EVERY_DAY else pytest.mark.long)
    for name, source in [*lessons(), *build_exercises.exercises()]
    for number in range(source.read_text(encoding="utf-8").count("\nexplore("))
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "number"),
    NUMBERED,
    ids=lambda value: value.parent.name if isinstance(value, Path) else value,
)
def test_every_explorer_works_over_its_whole_range_in_all_languages(source, number, request):
    explorer = explorers_of(source)[number]
    draws = random.Random(number)
    controls = explorer.controls
    count, long = request.config.getoption("--positions"), request.config.getoption("--long")
    positions = [{}, {n: c.at(0) for n, c in controls.items()}, {n: c.at(c.count - 1) for n, c in controls.items()}]
    positions += [{n: c.at(draws.randrange(c.count)) for n, c in controls.items()} for _ in range(count)]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*[Gg]lyph.*")
        warnings.filterwarnings("error", category=RuntimeWarning)
        for language in ("zh", "en", "both"):
            i18n.set_language(language)
            for position in positions[: None if language == "both" else 3 if long else 1]:
                image = picture(explorer.render(**position))
                assert (image < 128).any(axis=2).mean() > 0.002, f"an empty picture at {position}"
                with studio.drawing:
                    hidden = hidden_behind_the_edge(explorer.figure)
                assert not hidden, f"cut off at {position}: {hidden}"
    for name, control in controls.items():
        places = {0, control.count - 1} | ({control.position()} if long else set())
        assert len({explorer.render(**{name: control.at(i)}) for i in places}) == len(places), f"{name} changes nothing"
    main = next((c for c in controls.values() if c.values is None), None)
    if main is not None:  # one step of the first slider is visible: more than a handful of pixels differ
        here = main.position()
        step = here + 1 if here + 1 < main.count else here - 1
        a, b = (picture(explorer.render(**{main.name: main.at(i)})) for i in (here, step))
        assert (a != b).any(axis=2).sum() > 50


def hidden_behind_the_edge(figure):
    """Texts of the figure that reach beyond its edge."""
    figure.draw_without_rendering()  # the picture was drawn at another density: labels are where that put them
    renderer = figure.canvas.get_renderer()
    texts = [t for ax in figure.axes for t in (ax.title, ax._left_title, *ax.texts)]
    texts += [t for ax in figure.axes if ax.axison for t in (ax.xaxis.label, ax.yaxis.label)]  # else only alt text
    cut = []
    for t in texts:
        if t.get_visible() and t.get_text().strip():
            box = t.get_window_extent(renderer)
            if box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.width + 1 or box.y1 > figure.bbox.height + 1:
                cut.append(t.get_text())
    return cut


def test_the_picture_follows_the_look_and_the_other_one_is_kept():
    explorer = explore(experiment, draw, depth=(1, 20))
    light = explorer.image.value
    try:
        canvas.set_look("dark")
        wait_for(lambda: explorer.image.value != light)
        assert picture(explorer.image.value)[2, 2].tolist() == [0x11] * 3  # the paper
        assert picture(light)[2, 2].tolist() == [255] * 3
    finally:
        canvas.set_look("light")
    wait_for(lambda: explorer.image.value == light)
    explorer.close()
