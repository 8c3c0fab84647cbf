"""Light or dark: which of its two looks pictures have. A kernel cannot see JupyterLab's theme, so it is a setting."""

import os
import weakref

LOOKS = {"light": ("浅色", "light"), "dark": ("深色", "dark")}

_state = {"look": "light"}
_listeners = []


def look():
    """The look in force: "light" or "dark"; at first that of the environment variable NORMCOURSE_LOOK, or "light"."""
    return _state["look"]


def set_look(name):
    """Switch to "light" or "dark" and tell everything that shows pictures."""
    if name not in LOOKS:
        raise ValueError(f"unknown look {name!r}; known are {', '.join(LOOKS)}")
    if name != _state["look"]:
        _state["look"] = name
        for listener in list(_listeners):
            if call := listener():
                call()


def on_look_change(listener):
    """Call a method, `listener()`, after every change of look for as long as its object lives."""
    _listeners.append(weakref.WeakMethod(listener, _listeners.remove))


if os.environ.get("NORMCOURSE_LOOK"):
    set_look(os.environ["NORMCOURSE_LOOK"])
