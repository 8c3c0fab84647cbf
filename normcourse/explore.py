"""Sliders over an experiment: parameters -> experiment -> tidy DataFrame -> figure -> picture.

Why it is fast: the figure is made once and its artists are moved (`canvas`); the picture goes to the browser as PNG
bytes in a core `ipywidgets.Image`; and while nobody waits, a background thread computes and draws the positions next
to the slider that moved last, so that a step only sends bytes. The thread leaves the kernel free for other cells.
Importing this module limits torch to one thread.
"""

import atexit
import contextlib
import html
import inspect
import math
import threading
import time
from collections import OrderedDict

import ipywidgets
import pandas
import torch

from . import canvas
from .i18n import TERMS, language, on_language_change, term, text, widget_bundle

# The networks of the course are too small to gain from a second thread, and where the learner's cell, drawing ahead and
# the browser share two cores, threads that wait for each other made cells ten times slower.
torch.set_num_threads(1)

FRAMES_KEPT = 300  # per explorer; a frame is about 40 kB
AHEAD = (1, 2, -1, 3, 4, 5, 6, -2)  # positions drawn ahead, in units of the last step
AHEAD_SECONDS = 0.6  # no more of them than fit into this time, but always two
PAUSE = 0.05  # seconds without a move before drawing ahead, so that the browser gets to paint
LONG_PAUSE = 3.0  # and before drawing the neighbours along the other sliders
BUSY_AFTER = 0.25  # seconds before an explorer says that it is computing


def explore(experiment, draw, *, size=None, subplots=None, **controls):
    """Put sliders on an experiment, in the style of `ipywidgets.interact`.

    Args:
        experiment: function of the controls' values returning a tidy DataFrame. It runs in a background thread, so it
            must give the same frame for the same values and leave the global random state alone: use a
            `torch.Generator`.
        draw: function of `(frame, ax)`, see `canvas`.
        size: width and height of the figure in inches.
        subplots: for several axes, the arguments of `Figure.subplots`; draw then gets their array.
        controls: what each parameter ranges over. (min, max) or (min, max, step): a slider, of integers or of floats;
            a list or a dict {label: value}: a choice; True or False: a checkbox; or an ipywidget of one of these kinds.
            As with `interact`, a control starts at the experiment's default for it, else in the middle of its range.

    Returns: an `Explorer`; put the call last in its cell to see it.
    Raises: ValueError for an empty range or a parameter the experiment does not have, TypeError for an experiment that
        returns no DataFrame. An exception at a later position is shown in the explorer, and the sliders go on working.
    """
    return Explorer(experiment, draw, size, subplots, controls)


class Explorer:
    """See `explore`. `render(**values)` gives the picture at any position."""

    def __init__(self, experiment, draw, size=None, subplots=None, controls=None):
        self.experiment, self.draw, self.subplots = experiment, draw, subplots or {}
        self.controls = _controls(experiment, controls or {})
        self.figure, _ = canvas.new_figure(size, **self.subplots)
        self._cache, self._under_way, self._bookkeeping = OrderedDict(), {}, threading.Lock()
        self._seconds = 0.0  # what the last picture took
        self._moved_last = None  # name of the control and the direction of its last step
        self._showing = threading.RLock()  # callbacks may come from any thread
        first = self._wanted = self._position()
        width = f"{self.figure.get_figwidth() * self.figure.dpi:.0f}px"
        layout = {"width": width, "max_width": "100%", "object_fit": "contain"}
        self.image = ipywidgets.Image(value=self._frame(first), format="png", layout=layout)
        self.fallback, self.alt = canvas.small_png(self.figure), canvas.alt_text(self.figure)
        self.status = ipywidgets.HTML()
        panel = ipywidgets.Box(
            [c.panel for c in self.controls.values()], layout={"flex_flow": "row wrap", "max_width": "66em"}
        )
        self.widget = ipywidgets.VBox([panel, self.status, self.image])
        for name, control in self.controls.items():
            control.widget.observe(lambda change, name=name: self._moved(name), names="value")
        on_language_change(self._language_changed)
        self._before = first
        self._draw_ahead(first)

    def render(self, **values):
        """PNG bytes of the picture at these values (the others as they stand); raises what the experiment raises."""
        unknown = [name for name in values if name not in self.controls]  # a value off the grid goes to the nearest
        if unknown:
            raise ValueError(f"no control {unknown[0]!r}; the controls are {', '.join(self.controls)}")
        position = tuple(c.index(values[n]) if n in values else c.position() for n, c in self.controls.items())
        return self._frame(position)

    def _position(self):
        return tuple(control.position() for control in self.controls.values())

    def _key(self, position):
        return (language(), position)

    def _frame(self, position):
        """The picture at a position (an index per control), from the cache or drawn now."""
        key = self._key(position)
        with self._bookkeeping:
            if key in self._cache:
                return self._cache[key]
            elsewhere = key in self._under_way
            done = self._under_way.setdefault(key, threading.Event())
        if elsewhere:  # the other thread is at it; should it fail, this one finds out for itself
            done.wait()
            return self._frame(position)
        try:
            start = time.monotonic()
            values = {name: c.at(i) for (name, c), i in zip(self.controls.items(), position)}
            frame = self.experiment(**values)
            if not isinstance(frame, pandas.DataFrame):
                name = getattr(self.experiment, "__name__", "the experiment")
                raise TypeError(f"{name} returned {type(frame).__name__}; explore needs a pandas DataFrame to draw")
            with _studio.drawing:
                canvas.redraw(self.figure, self.draw, frame)
                picture = canvas.png(self.figure)
            self._seconds = time.monotonic() - start
            if key == self._key(position):
                with self._bookkeeping:
                    self._cache[key] = picture
                    while len(self._cache) > FRAMES_KEPT:
                        self._cache.popitem(last=False)
                return picture
        finally:
            self._under_way.pop(key).set()
        return self._frame(position)  # the language changed meanwhile: those were its words, not the key's

    def _moved(self, name):
        if self.controls[name].renaming:
            return
        with self._showing:
            position = self._wanted = self._position()
            axis = list(self.controls).index(name)
            direction = 1 if position[axis] >= self._before[axis] else -1
            self._moved_last, self._before = (axis, direction), position
            if self._key(position) in self._cache:
                self._show(position, self._cache[self._key(position)])
                _studio.cancel(self)
            else:
                _studio.request(self, position)
            self._draw_ahead(position)

    def _draw_ahead(self, position):
        """Plan the neighbours: soon those along the control moved last (at first, the first one), later the others."""
        if not self.controls:
            return
        main, direction = self._moved_last or (0, 1)
        near = AHEAD[: max(2, int(AHEAD_SECONDS / max(self._seconds, 1e-3)))]
        soon = [(main, direction * offset) for offset in near]
        later = [(axis, offset) for axis in range(len(self.controls)) if axis != main for offset in (1, -1)]
        counts = [control.count for control in self.controls.values()]

        def missing(steps):
            for axis, offset in steps:
                index = position[axis] + offset
                neighbour = (*position[:axis], index, *position[axis + 1 :])
                if 0 <= index < counts[axis] and self._key(neighbour) not in self._cache:
                    yield neighbour

        _studio.plan(self, [*missing(soon)], [*missing(later)])

    def _show(self, position, picture):
        with self._showing:
            if position != self._wanted and self._key(self._wanted) in self._cache:
                return  # the wanted picture is there already
            self.image.value = picture
            if position == self._wanted and self.status.value:
                self.status.value = ""

    def _work(self, position):
        """Draw a position that someone waits for; an exception becomes text under the sliders."""
        message = text("计算中 …", "computing …", between=" ")
        busy = threading.Timer(BUSY_AFTER, self._say, [position, message])
        busy.start()
        try:
            picture = self._frame(position)
        except (Exception, SystemExit) as error:
            values = ", ".join(f"{n} = {c.label(i)}" for (n, c), i in zip(self.controls.items(), position))
            where = text(
                f"在 {values} 处出错，图还是上一个位置的：", f"An error at {values}; the picture is still the last one:"
            )
            where = html.escape(where).replace("\n", "<br>")
            busy.cancel()
            busy.join()
            self._say(position, f"{where}<br><code>{html.escape(f'{type(error).__name__}: {error}')}</code>", "#b00020")
        else:
            busy.cancel()
            busy.join()
            self._show(position, picture)

    def _say(self, position, message, colour="#666666"):
        with self._showing:
            if position == self._wanted:
                self.status.value = f'<span style="color:{colour}">{message}</span>'

    def _language_changed(self):
        with self._showing:
            for control in self.controls.values():
                control.name_again()
            _studio.request(self, self._wanted)

    def _repr_mimebundle_(self, **kwargs):
        return widget_bundle(self.widget, self.alt, self.fallback)


class Control:
    """One slider or choice with its label and reset: a row of positions 0 … count − 1, each with a value."""

    def __init__(self, name, widget, labels=None):
        self.name, self.widget, self.labels = name, widget, labels
        self.start, self.renaming = widget.value, False
        if labels is not None or hasattr(widget, "options"):
            self.count = len(widget.options)
            self.values = [v for _, v in ipywidgets.widgets.widget_selection._make_options(widget.options)]
        elif isinstance(widget.value, bool):
            self.values, self.count = [False, True], 2
        else:
            self.values = None
            self.count = math.floor((widget.max - widget.min) / widget.step + 1e-9) + 1
            self.widget.value = self.start = self.at(self.index(widget.value))  # on the grid of its steps
        widget.style = {"description_width": "12em"}
        widget.layout = {"width": "28em"}
        self.reset = ipywidgets.Button(icon="undo", layout={"width": "2.4em", "padding": "0"})
        self.reset.on_click(lambda _: setattr(self.widget, "value", self.start))
        self.panel = ipywidgets.HBox([widget, self.reset], layout={"margin": "0 1.5em 0 0"})
        self.name_again()

    def name_again(self):
        self.widget.description = term(self.name)
        self.reset.tooltip = text(f"重置{TERMS.get(self.name, [self.name])[0]}", f"reset {self.name}", between=" · ")
        if self.labels is not None:
            index = self.position()
            self.renaming = True  # new options put the choice back to the first one, which is no move
            self.widget.options = [(term(label), value) for label, value in zip(self.labels, self.values)]
            self.widget.index = index
            self.renaming = False

    def position(self):
        return self.index(self.widget.value)

    def index(self, value):
        if self.values is not None:
            found = [i for i, known in enumerate(self.values) if known is value or known == value]
            if not found:
                raise ValueError(f"{self.name} = {value!r} is not one of {self.values}")
            return found[0]
        if isinstance(self.widget, ipywidgets.FloatLogSlider):
            value = math.log(value, self.widget.base)
        return min(max(round((value - self.widget.min) / self.widget.step), 0), self.count - 1)

    def at(self, index):
        if self.values is not None:
            return self.values[index]
        value = self.widget.min + index * self.widget.step
        if isinstance(self.widget, ipywidgets.FloatLogSlider):
            return self.widget.base**value
        return value if isinstance(value, int) else round(value, 10)

    def label(self, index):
        return self.labels[index] if self.labels is not None else f"{self.at(index)}"


def _controls(experiment, ranges):
    parameters = inspect.signature(experiment).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in ranges and p.kind not in (2, 4)]
    if missing:
        raise ValueError(f"the experiment needs {missing[0]!r}, but no control gives it: add {missing[0]}=(min, max)")
    controls = {}
    for name, choice in ranges.items():
        if name not in parameters and not open_ended:
            raise ValueError(f"the experiment has no parameter {name!r}; it has {', '.join(parameters) or 'none'}")
        default = parameters[name].default if name in parameters else inspect.Parameter.empty
        controls[name] = _control(name, choice, None if default is inspect.Parameter.empty else default)
    return controls


def _control(name, choice, default):
    if isinstance(choice, ipywidgets.ValueWidget):
        if not (hasattr(choice, "step") or hasattr(choice, "options") or isinstance(choice.value, bool)):
            raise TypeError(f"{name} is a {type(choice).__name__}; explore takes sliders, choices and checkboxes")
        return Control(name, choice)
    if isinstance(choice, bool):
        return Control(name, ipywidgets.Checkbox(value=choice if default is None else default))
    if isinstance(choice, tuple):
        if len(choice) not in (2, 3) or any(isinstance(c, bool) or not isinstance(c, (int, float)) for c in choice):
            raise TypeError(f"{name} is {choice!r}; a range is (min, max) or (min, max, step), all numbers")
        low, high, *step = choice
        whole = all(isinstance(c, int) for c in choice) and (default is None or isinstance(default, int))
        step = step[0] if step else 1 if whole else (high - low) / 100  # a float default makes a slider of floats
        if not low < high or not 0 < step <= high - low:
            raise ValueError(f"{name} is {choice!r}, an empty range; expected min < max and 0 < step <= max - min")
        slider = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
        if default is None:
            default = low + (high - low) / step // 2 * step
        if not low <= default <= high:
            raise ValueError(f"{name} starts at {default}, outside its range {choice!r}")
        digits = {} if whole else {"readout_format": f".{max(1, min(4, len(f'{step:.4g}'.partition('.')[2])))}f"}
        start = int(default) if whole else float(default)
        return Control(name, slider(value=start, min=low, max=high, step=step, **digits))
    if isinstance(choice, (list, dict)):
        labels = [*map(str, choice)]
        values = [*(choice.values() if isinstance(choice, dict) else choice)]
        if not values:
            raise ValueError(f"{name} is {choice!r}, an empty choice; give at least one value")
        if default is not None and not any(default is v or default == v for v in values):
            raise ValueError(f"{name} starts at {default!r}, which is not one of its choices {labels}")
        options = [(term(label), value) for label, value in zip(labels, values)]
        return Control(
            name, ipywidgets.Dropdown(options=options, value=values[0] if default is None else default), labels
        )
    raise TypeError(
        f"{name} is {choice!r}; a control is (min, max), (min, max, step), a list, a dict, True, False or a widget"
    )


class _Studio:
    """Two background threads that draw for all explorers: one what someone waits for, one ahead.

    For each explorer only the latest request counts, so a fast mouse never builds up a queue.
    """

    def __init__(self):
        self.drawing = threading.Lock()  # matplotlib draws one figure at a time
        self.change = threading.Condition()
        self.requests, self.plans = OrderedDict(), OrderedDict()  # explorer: position; explorer: (soon, later)
        self.last_move = 0.0
        self.serving = False  # somebody waits for a picture: nothing is begun ahead, it would take the time from it
        self.threads, self.closed = [], False

    def request(self, explorer, position):
        self._tell(lambda: self.requests.update({explorer: position}))

    def cancel(self, explorer):
        self._tell(lambda: self.requests.pop(explorer, None))

    def plan(self, explorer, soon, later):
        def update():
            self.plans[explorer] = (soon, later)
            self.plans.move_to_end(explorer)

        self._tell(update)

    def close(self):
        self.closed = True
        with self.change:
            self.change.notify_all()
        for thread in self.threads:
            thread.join(timeout=5)

    def _tell(self, update):
        with self.change:
            update()
            self.last_move = time.monotonic()
            if not self.threads:
                self.threads = [threading.Thread(target=t, daemon=True) for t in (self._serve, self._work_ahead)]
                for thread in self.threads:
                    thread.start()
                atexit.register(self.close)
            self.change.notify_all()

    def _serve(self):
        torch.set_num_threads(1)  # of this thread: the other cores belong to the browser and the learner's own cells
        while not self.closed:
            with self.change:
                self.change.wait_for(lambda: self.requests or self.closed)
                if self.closed:
                    return
                explorer, position = self.requests.popitem(last=False)
                self.serving = True
            with contextlib.suppress(Exception):  # what the experiment raises is shown; this is a closed front end
                explorer._work(position)
            with self.change:
                self.serving = bool(self.requests)
                self.change.notify_all()

    def _work_ahead(self):
        torch.set_num_threads(1)
        while not self.closed:
            with self.change:
                explorer, position, wait = self._next_plan()
                if explorer is None:
                    self.change.wait(wait)
                    continue
            with contextlib.suppress(Exception):  # shown when somebody goes there
                explorer._frame(position)

    def _next_plan(self):
        """The next position to draw ahead, that of the explorer moved last first; or how long to wait for one."""
        rest = time.monotonic() - self.last_move
        waits = []
        for stage, pause in enumerate((PAUSE, LONG_PAUSE)):
            for explorer in reversed(self.plans):
                if self.plans[explorer][stage]:
                    if rest >= pause and not self.requests and not self.serving:
                        return explorer, self.plans[explorer][stage].pop(0), None
                    waits.append(max(pause - rest, PAUSE))
        return None, None, min(waits) if waits else None


_studio = _Studio()
