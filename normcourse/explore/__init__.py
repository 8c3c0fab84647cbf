"""Sliders over an experiment: parameters -> experiment -> tidy DataFrame -> figure -> picture.

Why it is fast: while nobody waits, a background thread computes and draws the positions along the slider that moved
last, the nearest first, and sends them to the browser, which then steps through them by itself. What was not sent goes
through the kernel: a picture as PNG bytes in a core `ipywidgets.Image`. The threads leave the kernel free for other
cells.

    __init__      `explore` and the explorer
    controls      what each parameter ranges over
    reel          the pictures that lie in the browser
    studio        the threads, and when they draw what
    surroundings  the state an experiment runs in, in whatever thread
"""

import contextlib
import html
import inspect
import threading
import time
from collections import OrderedDict

import ipywidgets
import pandas

from .. import canvas
from ..cells import close_when_run_again, close_widgets
from ..i18n import language, on_language_change, text, widget_bundle
from .controls import controls_of
from .reel import NUMBERS, STYLE, Image, Picture, Reel
from .studio import studio
from .surroundings import Surroundings, in_colab, quiet

FRAMES_KEPT = 300  # per explorer; a frame is about 40 kB
AHEAD = (1, 2, -1, 3, 4, 5, 6, -2)  # positions drawn ahead at once, in units of the last step; then the others
AHEAD_SECONDS = 0.6  # no more of them than fit into this time, but always two
AXIS_SECONDS = 30  # and of the others, once the explorer was touched; a fifth before
BUSY_AFTER = 0.25  # seconds before an explorer says that it is computing


def explore(experiment, draw, /, *, size=None, subplots=None, play=None, **controls):
    """Put sliders on an experiment, in the style of `ipywidgets.interact`.

    Args:
        experiment: function of the controls' values returning a tidy DataFrame. It runs in a background thread, so it
            must give the same frame for the same values and leave the global random state alone: use a
            `torch.Generator`. It always finds the default device, grad mode and NumPy error handling of the cell that
            made the explorer. What it prints is to be seen for the first picture only.
        draw: function of `(frame, ax)`, see `canvas`.
        size: width and height of the figure in inches.
        subplots: for several axes, the arguments of `Figure.subplots`; draw then gets their array.
        play: name of a slider that gets a button which moves it by itself.
        controls: what each parameter ranges over. (min, max) or (min, max, step): a slider, of integers or of floats;
            a list or a dict {label: value}: a choice; True or False: a checkbox; or an ipywidget of one of these kinds.
            As with `interact`, a control starts at the experiment's default for it, else in the middle of its range.
            An experiment's own parameter called `size`, `subplots` or `play` is a control, too.

    Returns: an `Explorer`; put the call last in its cell to see it. It is closed when that cell makes another one. The
        first one of a process limits torch to one thread per computation, see `studio`.
    Raises: ValueError for an empty range or a parameter the experiment does not have, TypeError for an experiment that
        returns no DataFrame. An exception at a later position is shown in the explorer, and the sliders go on working.
    """
    parameters = inspect.signature(experiment).parameters
    if size is not None and "size" in parameters:
        controls, size = {"size": size, **controls}, None
    if subplots is not None and "subplots" in parameters:
        controls, subplots = {"subplots": subplots, **controls}, None
    if play is not None and "play" in parameters:
        controls, play = {"play": play, **controls}, None
    return Explorer(experiment, draw, size, subplots, controls, play)


class Explorer:
    """See `explore`. `render(**values)` gives the picture at any position, `close()` ends it.

    Widgets' registry keeps an explorer alive until it is closed; the switch of languages and the studio do not.
    """

    def __init__(self, experiment, draw, size=None, subplots=None, controls=None, play=None):
        studio.open()
        self.experiment, self.draw, self.subplots = experiment, draw, subplots or {}
        self.controls = controls_of(experiment, controls or {})
        if play is not None and play not in self.controls:
            names = ", ".join(self.controls)
            raise ValueError(text(f"play 是 {play!r}；控件有 {names}", f"play is {play!r}; the controls are {names}"))
        self.figure, _ = canvas.new_figure(size, **self.subplots)
        self.closed = False
        self._surroundings = Surroundings()
        self._cache, self._under_way, self._bookkeeping = OrderedDict(), {}, threading.Lock()
        self._seconds = 0.0  # what the last picture took
        self._axis, self._direction = 0, 1  # the control drawn ahead along, and the direction of its last step
        self._touched = False
        self._showing = threading.RLock()  # callbacks may come from any thread
        first = self._wanted = self._live = self._position()  # _live: whose picture the image has
        width = f"{self.figure.get_figwidth() * self.figure.dpi:.0f}px"
        layout = {"width": width, "max_width": "100%", "object_fit": "contain"}
        self.image = Image(format="png", layout=layout)
        picture = self._frame(first, aside=False)
        self.image.show(picture, picture.alt)
        self.fallback, self.alt = canvas.small_png(self.figure), canvas.alt_text(self.figure)
        self.status = ipywidgets.HTML()
        panel = ipywidgets.Box(
            [c.panel for c in self.controls.values()], layout={"flex_flow": "row wrap", "max_width": "66em"}
        )
        panel.add_class("nc-controls")
        style = ipywidgets.HTML(STYLE, layout={"display": "none"})
        self._reel = self._new_reel()
        if play is not None:  # for what `follow` made of the slider
            self.controls[play].add_play()
        self.widget = ipywidgets.VBox([panel, self.status, self._reel.widget if self._reel else self.image, style])
        self.widget.add_class("nc-explorer")
        self._watches = [(c, lambda change, name=name: self._moved(name)) for name, c in self.controls.items()]
        for control, moved in self._watches:
            control.widget.observe(moved, names=control.watched)
        on_language_change(self._settings_changed)
        canvas.on_look_change(self._settings_changed)
        close_when_run_again(self)
        self._before = first
        self._turn(first)
        self._draw_ahead(first)

    def render(self, /, **values):
        """PNG bytes of the picture at these values (the others as they stand); raises what the experiment raises."""
        unknown = [name for name in values if name not in self.controls]  # a value off the grid goes to the nearest
        if unknown:
            name, names = unknown[0], ", ".join(self.controls)
            raise ValueError(
                text(f"没有控件 {name!r}；控件有 {names}", f"no control {name!r}; the controls are {names}")
            )
        position = tuple(c.index(values[n]) if n in values else c.position() for n, c in self.controls.items())
        with studio.waited_for():
            picture = self._frame(position, aside=False)
            with studio.drawing:  # who looks at the figure next finds it whole, not half drawn by a thread
                return picture

    def close(self):
        """Take it off the screen and let go of its widgets and pictures. `render` goes on working."""
        if self.closed:
            return
        self.closed = True
        studio.forget(self)
        for control, moved in self._watches:
            control.widget.unobserve(moved, names=control.watched)
            if control.link:
                control.link.close()
        with self._showing:
            if self._reel:
                self._reel.link.close()
            close_widgets(self.widget, keep=[c.widget for c in self.controls.values() if not c.ours])
            for control in self.controls.values():
                if control.ours:
                    close_widgets(control.widget)
        with self._bookkeeping:
            self._cache.clear()

    def _position(self):
        return tuple(control.position() for control in self.controls.values())

    def _key(self, position):
        return (language(), canvas.look(), position)

    def _frame(self, position, aside=True):
        """The picture at a position (an index per control), from the cache or drawn now; aside: away from its cell,
        where what the experiment prints belongs to no output."""
        key = self._key(position)
        with self._bookkeeping:
            if key in self._cache:
                return self._cache[key]
            elsewhere = key in self._under_way
            done = self._under_way.setdefault(key, threading.Event())
        if elsewhere:  # the other thread is at it; should it fail, this one finds out for itself
            done.wait()
            return self._frame(position, aside)
        try:
            start = time.monotonic()
            values = {name: c.at(i) for (name, c), i in zip(self.controls.items(), position)}
            with quiet() if aside else contextlib.nullcontext():
                picture = self._surroundings.run(self._draw, values)
            self._seconds = time.monotonic() - start
            if key == self._key(position):
                with self._bookkeeping:
                    if not self.closed:
                        self._cache[key] = picture
                    while len(self._cache) > FRAMES_KEPT:
                        self._cache.popitem(last=False)
                return picture
        finally:
            self._under_way.pop(key).set()
        return self._frame(position, aside)  # the language changed meanwhile: those were its words, not the key's

    def _draw(self, values):
        frame = self.experiment(**values)
        if not isinstance(frame, pandas.DataFrame):
            name = getattr(self.experiment, "__name__", "the experiment")
            kind = type(frame).__name__
            raise TypeError(
                text(
                    f"{name} 返回了 {kind}；explore 要一个 pandas DataFrame 才能画图",
                    f"{name} returned {kind}; explore needs a pandas DataFrame to draw",
                )
            )
        with studio.drawing:
            canvas.redraw(self.figure, self.draw, frame)
            return Picture(canvas.png(self.figure), canvas.alt_text(self.figure))

    def _moved(self, name):
        if self.closed or self.controls[name].renaming:
            return
        with self._showing:
            position = self._wanted = self._position()
            if not self._reel or self.controls[name].source:
                self._axis = axis = list(self.controls).index(name)
                self._direction = 1 if position[axis] >= self._before[axis] else -1
            self._before, self._touched = position, True
        self._go(position)
        self._draw_ahead(position)

    def _go(self, position):
        """Show the picture of a position: now if it is there, else when the studio has drawn it."""
        with self._showing:
            picture = self._cache.get(self._key(position))
            if picture is not None:
                self._show(position, picture)
                studio.cancel(self)
            elif not in_colab():
                studio.request(self, position)
            self._turn(position)
        if picture is None and in_colab():  # not while holding `_showing`
            with studio.waited_for():
                self._work(position)

    def _new_reel(self):
        """None with ipywidgets 7, which has no `Stack`, and where what a thread sends does not arrive."""
        if not hasattr(ipywidgets, "Stack") or in_colab():
            return None
        for control in self.controls.values():
            control.follow(NUMBERS)
        followed = [i for i, control in enumerate(self.controls.values()) if control.source]
        if not followed:
            return None
        self._axis = followed[0]
        return Reel(self.image, [[*self.controls.values()][i] for i in followed])

    def _star(self, position):
        """What the pictures along the axis have in common."""
        return self._axis, self._key((*position[: self._axis], None, *position[self._axis + 1 :]))

    def _turn(self, position):
        if self._reel:
            there = position[self._axis] if position == self._live else None
            self._reel.turn([*self.controls.values()][self._axis], self._star(position), there)

    def _draw_ahead(self, position):
        """Plan the neighbours: soon those along the control moved last, later all along it and the others."""
        if not self.controls or self.closed:
            return
        axis = self._axis
        counts = [control.count for control in self.controls.values()]
        seconds = max(self._seconds, 1e-3)
        near = [self._direction * offset for offset in AHEAD[: max(2, int(AHEAD_SECONDS / seconds))]]
        far = []
        if self._reel:
            near = [0, *near]  # drawn, but to be sent
            far = sorted({*range(-position[axis], counts[axis] - position[axis])} - {*near}, key=abs)
            far = far[: int(AXIS_SECONDS / (1 if self._touched else 5) / seconds)]
        others = [(i, offset) for i in range(len(counts)) if i != axis for offset in (1, -1)]

        def missing(steps):
            for i, offset in steps:
                index = position[i] + offset
                neighbour = (*position[:i], index, *position[i + 1 :])
                if 0 <= index < counts[i] and (self._key(neighbour) not in self._cache or self._sendable(neighbour)):
                    yield neighbour

        studio.plan(self, [*missing((axis, n) for n in near)], [*missing([*((axis, f) for f in far), *others])])

    def _sendable(self, position):
        """Whether the browser is to get the picture of this position and has not."""
        return bool(self._reel) and self._reel.takes(self._star(position), position[self._axis])

    def _work_ahead(self, position):
        """Draw a position that nobody waits for, and send it."""
        picture = self._frame(position)
        with self._showing:
            if not self.closed and self._sendable(position) and self._cache.get(self._key(position)) is picture:
                self._reel.send(position[self._axis], picture)  # in these words

    def _show(self, position, picture):
        with self._showing:
            if position != self._wanted and self._key(self._wanted) in self._cache:
                return  # the wanted picture is there already
            self.image.show(picture, picture.alt)
            self._live = position
            if position == self._wanted:
                self._turn(position)
                if self.status.value:
                    self.status.value = ""

    def _work(self, position):
        """Draw a position that someone waits for; an exception becomes text under the sliders."""
        with self._busy(position):
            try:
                picture, error = self._frame(position), None
            except (Exception, SystemExit, KeyboardInterrupt) as raised:
                error = raised
        if error is None:
            self._show(position, picture)
            return
        values = ", ".join(f"{n} = {c.label(i)}" for (n, c), i in zip(self.controls.items(), position))
        where = text(
            f"在 {values} 处出错，图还是上一个位置的：", f"An error at {values}; the picture is still the last one:"
        )
        where = html.escape(where).replace("\n", "<br>")
        self._live = position  # what there is to be seen of it
        self._turn(position)
        self._say(position, f"{where}<br><code>{html.escape(f'{type(error).__name__}: {error}')}</code>", "#b00020")

    @contextlib.contextmanager
    def _busy(self, position):
        """Say after a while that the picture is being computed. In Colab nothing can be said later: so at once, where
        the last picture took that long."""
        message = text("计算中 …", "computing …", between=" ")
        if in_colab():
            if self._seconds > BUSY_AFTER:
                self._say(position, message)
            yield
            return
        timer = threading.Timer(BUSY_AFTER, self._say, [position, message])
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def _say(self, position, message, colour="#666666"):
        with self._showing:
            if position == self._wanted:
                self.status.value = f'<span style="color:{colour}">{message}</span>'

    def _settings_changed(self):
        if self.closed:
            return
        with self._showing:
            for control in self.controls.values():
                control.name_again()
        self._go(self._wanted)
        self._draw_ahead(self._wanted)

    def _repr_mimebundle_(self, **kwargs):
        return widget_bundle(None if self.closed else self.widget, self.alt, self.fallback)
