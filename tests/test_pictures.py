"""Pictures as a reader sees them: words that cover nothing and can be read, colours that everyone can tell apart, axes
that are not empty. The explorers are those of the lessons; what needs a trained model is drawn in the long tier."""

import ast
import functools
import gc
import io
import itertools
import random
import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from normcourse import canvas, i18n
from normcourse.explore.controls import controls_of
from normcourse.norms import NORMS
from normcourse.residual import PLACEMENTS
from tools.build_notebooks import lessons, read

from . import audit
from .lessons import definitions
from .test_explore import NUMBERED, explorers_of

CONTRAST = 4.5
FILLED = 0.6, 0.25  # the shares of an axes' width and height that what is drawn at the start takes at least


@pytest.fixture(autouse=True)
def light_and_both():
    canvas.set_look("light")
    i18n.set_language("both")
    yield
    canvas.set_look("light")
    i18n.set_language("both")


def picture(figure, **options):
    return np.asarray(Image.open(io.BytesIO(canvas.png(figure, **options))))


# --- the explorers ----------------------------------------------------------------------------------------------------


class Asked:
    """What a lesson asks `explore` for."""

    def __init__(self, experiment, draw, /, *, size=None, subplots=None, play=None, **controls):
        self.experiment, self.draw = experiment, draw
        self.figure, _ = canvas.new_figure(size, **(subplots or {}))
        self.controls = controls_of(experiment, controls)

    @functools.cached_property
    def frames(self):
        """At the start, and at the lowest and the highest position of all controls at once."""
        start = {name: c.position() for name, c in self.controls.items()}
        ends = [{name: 0 for name in start}, {name: c.count - 1 for name, c in self.controls.items()}]
        positions = [start, *(end for end in ends if end != start)]
        return [self.experiment(**{n: self.controls[n].at(i) for n, i in p.items()}) for p in positions]


def _asked():
    """(chapter, number, the call's source) of every explorer of the lessons."""
    for chapter, source in lessons():
        calls = [
            node.value
            for cell in read(source).cells
            if cell.cell_type == "code" and "\nexplore(" in f"\n{cell.source}"
            for node in ast.parse(cell.source).body
            if isinstance(node, ast.Expr) and getattr(getattr(node.value, "func", None), "id", "") == "explore"
        ]
        for number, call in enumerate(calls):
            yield chapter[:2], number, ast.unparse(call)


ASKED = [*_asked()]


@functools.cache
def lesson(chapter):
    """What its cells define, and the small assignments that its explorers need."""
    (text,) = [source.read_text(encoding="utf-8") for name, source in lessons() if name.startswith(chapter)]
    return definitions(
        chapter,
        *(n for n in ("WIRINGS", "CUBE", "OPTIMISERS", "depths", "grid", "probes") if f"\n{n} = " in text),
    )


@functools.cache
def asked(chapter, number):
    """The explorer, or None where it needs what only the lesson run has: a trained model, a measured time."""
    (call,) = [call for c, n, call in ASKED if (c, n) == (chapter, number)]
    try:
        found = eval(call, lesson(chapter) | {"explore": Asked})
        found.frames  # noqa: B018
    except NameError:
        return None
    return found


each_explorer = pytest.mark.parametrize(("chapter", "number"), [(c, n) for c, n, _ in ASKED])


@pytest.mark.slow
@each_explorer
def test_words_of_an_explorer_cover_nothing_and_can_be_read(chapter, number):
    explorer = asked(chapter, number)
    if explorer is None:
        pytest.skip("needs the lesson's trained models: see the long tier")
    for frame in explorer.frames:
        canvas.redraw(explorer.figure, explorer.draw, frame)
        assert not audit.faults(explorer.figure) + faint(explorer.figure)
    canvas.set_look("dark")
    canvas.redraw(explorer.figure, explorer.draw, explorer.frames[0])
    assert not faint(explorer.figure)


@pytest.mark.slow
@each_explorer
def test_the_first_picture_of_an_explorer_fills_its_axes(chapter, number):
    explorer = asked(chapter, number)
    if explorer is None:
        pytest.skip("needs the lesson's trained models: see the long tier")
    canvas.redraw(explorer.figure, explorer.draw, explorer.frames[0])
    shares = [audit.used(ax) for ax in explorer.figure.axes if ax.axison]
    assert not shares or np.max(shares, axis=0)[0] >= FILLED[0], shares
    assert not shares or np.max(shares, axis=0)[1] >= FILLED[1], shares


@pytest.mark.slow
def test_most_explorers_are_looked_at_without_a_training_run():
    seen = [asked(chapter, number) is not None for chapter, number, _ in ASKED]
    assert sum(seen) >= 0.5 * len(seen)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("source", "number"), NUMBERED, ids=lambda value: getattr(value, "name", value))
def test_no_picture_of_any_notebook_has_a_fault(source, number, request):
    explorer = explorers_of(source)[number]
    draws, controls = random.Random(number), explorer.controls
    positions = [{n: c.position() for n, c in controls.items()}]
    for name, control in controls.items():
        positions += [positions[0] | {name: end} for end in (0, control.count - 1)]
    count = request.config.getoption("--positions")
    positions += [{n: draws.randrange(c.count) for n, c in controls.items()} for _ in range(count)]
    found = {}
    for language in ("zh", "en", "both"):
        i18n.set_language(language)
        for position in positions:
            values = {n: controls[n].at(i) for n, i in position.items()}
            canvas.redraw(explorer.figure, explorer.draw, explorer.experiment(**values))
            faults = audit.faults(explorer.figure) + faint(explorer.figure)
            if faults:
                found[language, *position.values()] = faults
    canvas.set_look("dark")
    for position in positions:
        canvas.redraw(
            explorer.figure, explorer.draw, explorer.experiment(**{n: controls[n].at(i) for n, i in position.items()})
        )
        if faults := faint(explorer.figure):
            found["dark", *position.values()] = faults
    assert not found


# --- what the audit sees ----------------------------------------------------------------------------------------------


def plain(frame, ax):
    canvas.setup(ax, ("层", "layer"), ("值", "value"), (0, 10), (1e-4, 1e4), "log")
    canvas.curve(ax, "one", [0, 5, 10], [1, 10, 1e3], "一号\nnumber one")
    canvas.theory(ax, "one", [0, 10], [1, 1e-3], "理论 theory")
    canvas.level(ax, "one", 10, "水平线 level")
    canvas.finding(ax, "发现是 3.0", "the finding is 3.0")


PLANTED = {
    "label 'across the curve' on a line": lambda ax: ax.text(3.5, 4, "across the curve"),
    "over label 'over the title'": lambda ax: ax.text(0, 1.1, "over the title", transform=ax.transAxes),
    "leaves the figure": lambda ax: ax.text(8, 1e-2, "so long that it goes out on the right"),
    "over tick": lambda ax: ax.text(-0.6, 1, "on the ticks"),
    "over axis": lambda ax: ax.text(0.5, -0.17, "on the axis' name", transform=ax.transAxes),
    "missing glyph": lambda ax: ax.text(5, 1e-3, "\u1234"),
    "over label": lambda ax: (ax.text(6, 1e-3, "one of two"), ax.text(6.1, 1.2e-3, "another")),
    "tick '": lambda ax: ax.set_xticks([0, 0.2, 0.4], ["nought", "a fifth", "two fifths"]),
    "title 'a title": lambda ax: ax.set_title("a title " * 20),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_the_audit_sees_what_is_planted(fault):
    figure, ax = canvas.new_figure()
    canvas.redraw(figure, plain, None)
    assert not audit.faults(figure)
    PLANTED[fault](ax)
    assert any(fault in said for said in audit.faults(figure)), audit.faults(figure)


def test_the_audit_sees_words_in_the_next_panel():
    figure, axes = canvas.new_figure((9.2, 4.2), ncols=2)
    canvas.redraw(figure, lambda frame, axes: [plain(frame, ax) for ax in axes], None)
    assert not audit.faults(figure)
    axes[0].text(12, 1e-3, "far too far to the right of it")
    assert any("in another panel" in said for said in audit.faults(figure))


def test_the_audit_sees_empty_axes():
    _, ax = canvas.new_figure()
    canvas.setup(ax, ("", ""), ("", ""), (0, 10), (0, 10))
    canvas.curve(ax, "one", [0, 2.5], [0, 5])
    assert np.allclose(audit.used(ax), (0.25, 0.5))


# --- labels -----------------------------------------------------------------------------------------------------------


def boxes(ax):
    return {text.get_text(): text.get_window_extent() for text in ax.texts if text.get_text()}


@pytest.mark.parametrize("height", [0.001, 0.5, 0.999])
def test_names_of_curves_closed_forms_and_levels_make_room_for_each_other(height):
    def draw(frame, ax):
        canvas.setup(ax, ("x", "x"), ("y", "y"), (0, 1), (0, 1))
        for i in range(4):
            canvas.curve(ax, i, [0, 1], [height - 0.1 * (i - 1.5), height], f"名{i}\nname {i}")
        canvas.theory(ax, "law", [0, 1], [1 - height, height], "theory")
        canvas.level(ax, "one", height, "level one")
        canvas.level(ax, "two", height - 0.03, "level two")

    figure, ax = canvas.new_figure()
    canvas.redraw(figure, draw, None)
    assert not [fault for fault in audit.faults(figure) if "over" in fault or "leaves" in fault]
    assert len(boxes(ax)) == 4 + 1 + sum(0 <= h <= 1 for h in (height, height - 0.03))


@pytest.mark.parametrize("scale", [1e3, 1e-3])
def test_of_two_curves_that_leave_the_axes_the_higher_one_is_named_above(scale):
    def draw(frame, ax):
        canvas.setup(ax, ("x", "x"), ("y", "y"), (0, 10), (0.1, 10), "log")
        for name, factor in frame:
            canvas.curve(ax, name, [0, 9.9, 10], [1, 1, factor * scale], name)

    for frame in ([("low", 1), ("high", 2)], [("high", 2), ("low", 1)]):
        figure, ax = canvas.new_figure()
        canvas.redraw(figure, draw, frame)
        assert boxes(ax)["high"].y0 >= boxes(ax)["low"].y1 - 1


def test_a_long_name_gets_a_wider_margin():
    def draw(words, ax):
        canvas.setup(ax, ("x", "x"), ("y", "y"), (0, 1), (0, 1))
        canvas.curve(ax, "one", [0, 1], [0, 1], words)

    figure, ax = canvas.new_figure()
    widths = []
    for words in ("short", "a name of quite some length"):
        canvas.redraw(figure, draw, words)
        assert not audit.faults(figure)
        widths.append(ax.bbox.width)
    assert widths[1] < widths[0] - 80


@pytest.mark.parametrize("low", range(-40, 0, 7))
@pytest.mark.parametrize("high", range(1, 42, 7))
def test_ticks_of_a_log_axis_have_ten_to_the_nought_among_them_and_are_few(low, high):
    _, ax = canvas.new_figure()
    canvas.setup(ax, ("", ""), ("", ""), (0, 1), (10.0**low, 10.0**high), "log")
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert "10⁰" in names and 1 <= len(names) <= 9
    assert len({round(step, 6) for step in np.diff(np.log10(ax.get_yticks()))}) <= 1


def test_limits_of_a_log_axis_hold_what_is_drawn_and_stay_put():
    for values in ([1.0, 50.0], [0.85, 1.1], [3e-20, 1.0, 0.0, np.nan], [2.0]):
        low, high = canvas.decades(values)
        inside = [v for v in values if v > 0]
        assert low < min(inside) and max(inside) < high
    assert canvas.decades([1.0, 50.0]) == canvas.decades([1.3, 20.0])


# --- light and dark ---------------------------------------------------------------------------------------------------


def luminance(colour):
    """WCAG 2.2, "relative luminance"."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def faint(figure):
    """Words whose contrast with what is under them is too low."""
    figure.draw_without_rendering()
    found = []
    for words in audit.texts(figure):
        one, other = luminance(to_rgb(words.artist.get_color())), luminance(audit.ground(words, figure))
        contrast = (max(one, other) + 0.05) / (min(one, other) + 0.05)
        if contrast < CONTRAST:
            found.append(f"{words.text!r}: {contrast:.1f}")
    return found


def test_the_contrast_of_black_and_white_is_21_and_the_audit_sees_grey_on_white():
    figure, ax = canvas.new_figure()
    assert luminance((1, 1, 1)) + 0.05 == pytest.approx(21 * (luminance((0, 0, 0)) + 0.05))
    canvas.redraw(figure, plain, None)
    assert not faint(figure)
    ax.text(2, 1, "pale", color="#777777")
    assert [said for said in faint(figure) if "pale" in said]


@pytest.mark.parametrize("look", ["light", "dark"])
def test_words_over_cells_of_any_colour_can_be_read(look):
    table = pd.DataFrame(np.linspace(0, 1, 30).reshape(5, 6))
    table.iloc[0, 0], table.iloc[1, 1], table.iloc[2, 2] = np.inf, np.nan, 6545.52
    canvas.set_look(look)
    figure, ax = canvas.new_figure()
    canvas.redraw(figure, lambda frame, ax: canvas.heat_map(ax, frame, 0, 1, beyond=(9.99, "div.")), table)
    assert not faint(figure) and not audit.faults(figure)
    assert [text.get_text() for text in ax.texts].count("div.") == 3


@pytest.mark.parametrize("look", ["light", "dark"])
def test_letters_on_tiles_of_any_colour_can_be_read(look):
    from normcourse.chapters.batch_norm.drawings import company

    tiles = pd.DataFrame([(s, p) for s in range(4) for p in range(16)], columns=["sentence", "position"])
    tiles = tiles.assign(character="e", real=tiles["position"] < 12, value=np.linspace(-3, 3, 64), change=0.1)
    canvas.set_look(look)
    figure, _ = canvas.new_figure(ncols=1, nrows=2)
    canvas.redraw(figure, company, pd.concat([tiles.assign(norm=norm) for norm in ("batch_norm", "layer_norm")]))
    assert len([words for words in audit.texts(figure) if words.text == "e"]) == 96 and not faint(figure)


def test_a_picture_after_a_change_of_look_is_that_of_a_new_figure():
    used, _ = canvas.new_figure()
    for look in ("light", "dark", "light", "dark"):
        canvas.set_look(look)
        canvas.redraw(used, plain, None)
        fresh, _ = canvas.new_figure()
        canvas.redraw(fresh, plain, None)
        assert np.array_equal(picture(used), picture(fresh)), look
        assert (luminance(picture(fresh)[2, 2] / 255) < 0.2) == (look == "dark")
    with pytest.raises(ValueError, match="unknown look 'grey'; known are light, dark"):
        canvas.set_look("grey")


def test_who_shows_pictures_is_told_of_a_new_look_while_it_lives():
    class Shows:
        def follow(self):
            told.append(canvas.look())

    told, shows = [], Shows()
    canvas.on_look_change(shows.follow)
    canvas.set_look("dark")
    canvas.set_look("dark")
    canvas.set_look("light")
    assert told == ["dark", "light"]
    del shows
    gc.collect()
    canvas.set_look("dark")
    assert told == ["dark", "light"]


def test_pictures_have_two_pixels_to_one_and_stored_ones_one():
    import base64

    figure, _ = canvas.new_figure((3, 2))
    canvas.redraw(figure, lambda frame, ax: canvas.curve(ax, "one", [0, 1], [0, 1]), None)
    assert picture(figure).shape == (400, 600, 3) and figure.dpi == 100
    small = Image.open(io.BytesIO(base64.b64decode(canvas.small_png(figure))))
    assert small.size == (300, 200)


# --- colours ----------------------------------------------------------------------------------------------------------

# Machado, Oliveira & Fernandes (2009), severity 1.0, for linear RGB.
EYES = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TELLING = 9.0  # distance in CIELAB; about 2.3 is just noticeable side by side


def lab(colour, eyes):
    linear = np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)])
    seen = np.clip(np.array(EYES[eyes]) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ seen
    f = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    f = np.where(f > 6 / 29, f, xyz / [0.9505, 1.0, 1.089] * 7.787 + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("registry", [PLACEMENTS, NORMS], ids=["wirings", "norms"])
def test_wirings_and_norms_are_told_apart_by_any_eyes_and_without_colour(registry, eyes):
    looks, dark = registry.each("look"), luminance(to_rgb(canvas.TONES["dark"]["paper"]))
    assert all(luminance(to_rgb(look.colour)) + 0.05 > 3 * (dark + 0.05) for look in looks.values())
    for one, other in itertools.combinations(looks, 2):
        a, b = looks[one], looks[other]
        assert np.linalg.norm(lab(a.colour, eyes) - lab(b.colour, eyes)) > TELLING, (one, other)
        assert a.marker != b.marker, (one, other)


def test_red_and_green_of_the_same_lightness_are_alike_to_deuteranopic_eyes():
    """The matrices simulate something: what is far apart for most is close for some."""
    far, near = (np.linalg.norm(lab("#b35900", e) - lab("#7a7a00", e)) for e in ("normal", "deuteranopia"))
    assert near < 0.5 * far


def test_no_warning_of_a_missing_glyph_from_numbers_in_formulas():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure, ax = canvas.new_figure()
        ax.set_title(rf"$1/\sqrt{{\varepsilon}}$ = {canvas.number(3.2e7, formula=True)}, √l, {canvas.number(3.2e-7)}")
        canvas.png(figure)
