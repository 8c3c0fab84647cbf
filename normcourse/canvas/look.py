"""Two looks, light and dark: every colour of a picture that is not data's own follows the one in force."""

import contextlib

import matplotlib
from matplotlib import font_manager
from matplotlib.colors import to_hex, to_rgb

from ..data import FONT
from ..theme import look, on_look_change, set_look  # noqa: F401

font_manager.fontManager.addfont(FONT)

# paper: the ground; ink: theory, levels, words; soft: ticks and asides; grid; empty: cells that hold nothing.
TONES = {
    "light": {"paper": "#ffffff", "ink": "#000000", "soft": "#444444", "grid": "#e4e4e4", "empty": "#f2f2f2"},
    "dark": {"paper": "#111111", "ink": "#f2f2f2", "soft": "#c4c4c4", "grid": "#333333", "empty": "#262626"},
}
LEGIBLE = 4.5  # contrast of text with what is under it (WCAG 2, level AA)

_SHAPE = {
    "font.family": ["NormCourse Sans", "DejaVu Sans"],
    "font.size": 11,
    "axes.titlesize": 12.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "lines.linewidth": 2.0,
    "lines.markersize": 4.5,
    "figure.figsize": (7.6, 4.2),
    "figure.dpi": 100,
    "axes.unicode_minus": True,
}


def _colours(paper, ink, soft, grid, empty):
    ground = dict.fromkeys(("figure.facecolor", "savefig.facecolor", "axes.facecolor", "figure.edgecolor"), paper)
    marks = dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), soft)
    words = dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor"), ink)
    return ground | marks | words | {"grid.color": grid, "patch.edgecolor": ink, "legend.facecolor": paper}


_NOT_LOOKS = {"backend", "backend_fallback", "interactive", "toolbar", "timezone", "webagg.address", "date.epoch"}
_DEFAULTS = {name: value for name, value in matplotlib.rcParamsDefault.items() if name not in _NOT_LOOKS}
_SETTINGS = {name: _DEFAULTS | _SHAPE | _colours(**tones) for name, tones in TONES.items()}
matplotlib.rcParams.update(_SHAPE | _colours(**TONES["light"]))


def tone(name):
    """A colour of the look in force: "paper", "ink", "soft", "grid" or "empty"."""
    return TONES[look()][name]


@contextlib.contextmanager
def styled():
    """The look of the course for a moment, whatever style was set. Touches only settings that differ, and not those
    that the learner's cell, running beside this, sets meanwhile."""
    settings, ours = matplotlib.rcParams, _SETTINGS[look()]
    theirs = {name: settings[name] for name, value in ours.items() if settings[name] != value}
    settings.update({name: ours[name] for name in theirs})
    try:
        yield
    finally:
        settings.update({name: value for name, value in theirs.items() if settings[name] == ours[name]})


def luminance(colour):
    """Relative luminance of a colour as WCAG 2 defines it, 0 to 1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Contrast of two colours, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def legible(colour, ground=None):
    """The colour nearest to `colour`, towards black or white, in which words can be read on `ground` (the paper)."""
    ground = tone("paper") if ground is None else ground
    far = max((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), key=lambda end: contrast(end, ground))
    start = to_rgb(colour)
    for share in range(21):
        mixed = [a + (b - a) * share / 20 for a, b in zip(start, far)]
        if contrast(to_hex(mixed), ground) >= LEGIBLE:
            return to_hex(mixed)
    return to_hex(far)
