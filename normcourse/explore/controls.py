"""Controls: what each parameter ranges over, a row of positions 0 … count − 1 under a slider, choice or checkbox."""

import inspect
import math
from decimal import Decimal
from numbers import Integral, Real

import ipywidgets

from ..i18n import TERMS, term, text


class Control:
    """One slider or choice with its label and reset: a row of positions, each with a value.

    A choice is known by its position and not by its value: values may be tensors or frames, or equal.
    """

    def __init__(self, name, widget, values=None, labels=None, ours=True):
        self.name, self.widget, self.values, self.labels, self.ours = name, widget, values, labels, ours
        self.renaming, self.link = False, None
        self.face, self.source, self.stops = widget, None, []  # see `follow`
        self.watched = "value"
        if hasattr(widget, "options"):
            self.watched = "index"
            if values is None:
                self.values = [v for _, v in ipywidgets.widgets.widget_selection._make_options(widget.options)]
            self.count = len(self.values)
        elif isinstance(widget.value, bool):
            self.values, self.count = [False, True], 2
        else:
            self.count = math.floor((widget.max - widget.min) / widget.step + 1e-9) + 1
            self.widget.value = self.at(self.index(widget.value))  # on the grid of its steps
        self.start = getattr(widget, self.watched)
        widget.style.description_width, widget.layout.width = "12em", "28em"
        self.reset = ipywidgets.Button(icon="undo", layout={"width": "2.4em", "padding": "0"})
        self.reset.on_click(lambda _: setattr(self.widget, self.watched, self.start))
        self.panel = ipywidgets.HBox([widget, self.reset], layout={"margin": "0 1.5em 0 0"})
        self.name_again()

    def follow(self, most):
        """Have the browser follow this control, if it has at most so many numbers: `source` is a (widget, trait)
        that is a whole number, `stops` the position at each of them, None below the first. Where the control has no
        such trait, as sliders of floats, a slider over its positions, its `face`, is shown in its place."""
        if self.watched == "index":
            self.source, self.stops = (self.widget, "index"), range(self.count)
        elif (
            isinstance(self.widget, ipywidgets.IntSlider)
            and self.widget.step == 1
            and 0 <= self.widget.min <= self.widget.max < most
        ):
            self.source, self.stops = (self.widget, "value"), [None] * self.widget.min + [*range(self.count)]
        elif self.ours and self.values is None and self.count <= most:
            digits = self.widget.readout_format
            options = [(format(self.at(i), digits), i) for i in range(self.count)]
            style = {"description_width": self.widget.style.description_width}
            self.face = ipywidgets.SelectionSlider(options=options, index=self.position(), style=style)
            self.face.layout.width = self.widget.layout.width
            self.face.observe(lambda change: setattr(self.widget, "value", self.at(change["new"])), names="index")
            self.widget.observe(lambda _: setattr(self.face, "index", self.position()), names="value")
            self.panel.children = [self.face, self.reset]
            self.source, self.stops = (self.face, "index"), range(self.count)
            self.name_again()

    def add_play(self, milliseconds=250):
        """A button that moves the slider by itself, in the browser."""
        if self.face is self.widget:
            slider, trait = self.widget, "value"
            limits = {name: getattr(slider, name) for name in ("min", "max", "step", "value")}
        else:  # it shows positions
            slider, trait = self.face, "index"
            limits = {"min": 0, "max": self.count - 1, "value": self.position()}
        play = ipywidgets.Play(**limits, interval=milliseconds, layout={"width": "auto"})
        self.link = ipywidgets.jslink((play, "value"), (slider, trait))
        self.panel.children = (play, *self.panel.children)

    def name_again(self):
        self.widget.description = self.face.description = term(self.name)
        self.reset.tooltip = text(f"重置{TERMS.get(self.name, [self.name])[0]}", f"reset {self.name}", between=" · ")
        if self.labels is not None:
            index, values = self.position(), [value for _, value in self.widget.options]
            self.renaming = True  # new options put the choice back to the first one, which is no move
            with self.widget.hold_sync():
                self.widget.options = [(term(label), value) for label, value in zip(self.labels, values)]
                self.widget.index = index
            self.renaming = False

    def position(self):
        index = getattr(self.widget, "index", None)
        return self.index(self.widget.value) if index is None else index

    def index(self, value):
        if self.values is not None:
            index = _find(self.values, value)
            if index is None:
                raise ValueError(
                    text(
                        f"{self.name} = {value!r}，不在可选的值里：{self.values}",
                        f"{self.name} = {value!r} is not one of {self.values}",
                    )
                )
            return index
        if isinstance(self.widget, ipywidgets.FloatLogSlider):
            value = math.log(value, self.widget.base)
        return min(max(round((value - self.widget.min) / self.widget.step), 0), self.count - 1)

    def at(self, index):
        if self.values is not None:
            return self.values[index]
        if isinstance(self.widget, ipywidgets.FloatLogSlider):
            return self.widget.base ** (self.widget.min + index * self.widget.step)
        # 0.2 + 3 × 0.1 is 0.5, not 0.5000000000000001
        value = _exact(self.widget.min) + index * _exact(self.widget.step)
        return int(value) if isinstance(self.widget.value, int) else float(value)

    def label(self, index):
        return self.labels[index] if self.labels is not None else f"{self.at(index)}"


def controls_of(experiment, ranges):
    """The controls {name: Control} for an experiment, see `explore`."""
    parameters = inspect.signature(experiment).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in ranges and p.kind not in (2, 4)]
    if missing:
        name = missing[0]
        raise ValueError(
            text(
                f"实验需要 {name!r}，却没有控件给它：加上 {name}=(最小, 最大)",
                f"the experiment needs {name!r}, but no control gives it: add {name}=(min, max)",
            )
        )
    controls = {}
    for name, choice in ranges.items():
        if name not in parameters and not open_ended:
            has = ", ".join(parameters)
            raise ValueError(
                text(
                    f"实验没有参数 {name!r}；它的参数：{has or '无'}",
                    f"the experiment has no parameter {name!r}; it has {has or 'none'}",
                )
            )
        default = parameters[name].default if name in parameters else inspect.Parameter.empty
        controls[name] = _control(name, choice, None if default is inspect.Parameter.empty else default)
    return controls


def _control(name, choice, default):
    if isinstance(choice, ipywidgets.ValueWidget):
        if not (hasattr(choice, "step") or hasattr(choice, "options") or isinstance(choice.value, bool)):
            kind = type(choice).__name__
            raise TypeError(
                text(
                    f"{name} 是 {kind}；explore 只接受滑块、选项和复选框",
                    f"{name} is a {kind}; explore takes sliders, choices and checkboxes",
                )
            )
        return Control(name, choice, ours=False)
    if isinstance(choice, bool):
        return Control(name, ipywidgets.Checkbox(value=choice if default is None else default))
    if isinstance(choice, tuple):
        return _slider(name, choice, default)
    if isinstance(choice, (list, dict)):
        return _choice(name, choice, default)
    raise TypeError(
        text(
            f"{name} 是 {choice!r}；控件写成 (最小, 最大)、(最小, 最大, 步长)、列表、字典、True、False 或一个 widget",
            f"{name} is {choice!r}; a control is (min, max), (min, max, step), a list, a dict, True, False or a widget",
        )
    )


def _slider(name, choice, default):
    if len(choice) not in (2, 3) or any(isinstance(c, bool) or not isinstance(c, Real) for c in choice):
        raise TypeError(
            text(
                f"{name} 是 {choice!r}；范围写成 (最小, 最大) 或 (最小, 最大, 步长)，都是数",
                f"{name} is {choice!r}; a range is (min, max) or (min, max, step), all numbers",
            )
        )
    whole = all(isinstance(c, Integral) for c in choice) and (default is None or isinstance(default, Integral))
    kind = int if whole else float  # a float default makes a slider of floats
    low, high, *step = map(kind, choice)
    step = step[0] if step else 1 if whole else float((_exact(high) - _exact(low)) / 100)
    if not low < high or not 0 < step <= high - low:
        raise ValueError(
            text(
                f"{name} 是 {choice!r}，范围是空的；要求 最小 < 最大，0 < 步长 <= 最大 - 最小",
                f"{name} is {choice!r}, an empty range; expected min < max and 0 < step <= max - min",
            )
        )
    if default is None:
        default = low + (high - low) / step // 2 * step
    if not low <= default <= high:
        raise ValueError(
            text(
                f"{name} 从 {default} 开始，不在它的范围 {choice!r} 里",
                f"{name} starts at {default}, outside its range {choice!r}",
            )
        )
    slider, readout = ipywidgets.IntSlider, {}
    if not whole:
        digits = len(f"{step:.4g}".partition(".")[2])
        slider, readout = ipywidgets.FloatSlider, {"readout_format": f".{max(1, min(4, digits))}f"}
        if step < 1e-4:
            readout = {"readout_format": ".4g"}
    return Control(name, slider(value=kind(default), min=low, max=high, step=step, **readout))


def _choice(name, choice, default):
    labels = [*map(str, choice)]
    values = [*(choice.values() if isinstance(choice, dict) else choice)]
    if not values:
        raise ValueError(
            text(
                f"{name} 是 {choice!r}，没有可选的值；至少给一个",
                f"{name} is {choice!r}, an empty choice; give at least one value",
            )
        )
    start = 0 if default is None else _find(values, default)
    if start is None:
        raise ValueError(
            text(
                f"{name} 从 {default!r} 开始，不在可选的值 {labels} 里",
                f"{name} starts at {default!r}, which is not one of its choices {labels}",
            )
        )
    # the widget compares values: where they cannot be told apart by ==, it gets their positions instead
    shown = values if _told_apart(values) else range(len(values))
    options = [(term(label), value) for label, value in zip(labels, shown)]
    return Control(name, ipywidgets.Dropdown(options=options, index=start), values, labels)


def _exact(number):
    """The decimal number that a float is written as."""
    return Decimal(str(number))


def _same(a, b):
    """Whether a == b, where that is an answer: for tensors and frames it is one per entry, or an error."""
    try:
        return bool(a == b)
    except Exception:
        return False


def _find(values, value):
    """The position of a value among the values, the very object before its equals; None if it is not there."""
    found = [i for i, v in enumerate(values) if v is value] or [i for i, v in enumerate(values) if _same(v, value)]
    return found[0] if found else None


def _told_apart(values):
    return all(_same(a, b) == (i == j) for i, a in enumerate(values) for j, b in enumerate(values))
