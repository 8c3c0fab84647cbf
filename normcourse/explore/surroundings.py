"""The state an experiment runs in: that of the cell which made the explorer, whichever thread draws and when."""

import contextlib
import contextvars
import sys
import threading

import IPython
import numpy as np
import torch

_thread = threading.local()


class Surroundings:
    """What a thread has for itself, as it is here and now: torch's default device and whether it records gradients,
    what NumPy does about errors, context variables."""

    def __init__(self):
        self.device, self.errors = torch.get_default_device(), np.geterr()
        self.gradients, self.inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        self.context = contextvars.copy_context()

    def run(self, function, *arguments):
        """function(*arguments) in this state."""
        same_device = torch.get_default_device() == self.device
        with (
            contextlib.nullcontext() if same_device else self.device,
            torch.inference_mode(self.inference),
            torch.set_grad_enabled(self.gradients),
            np.errstate(**self.errors),
        ):
            return self.context.copy().run(function, *arguments)


@contextlib.contextmanager
def quiet():
    """What this thread prints, warns of and displays goes nowhere: it would land in whatever cell the learner runs."""
    for stream in (sys.stdout, sys.stderr):
        _follow_the_thread(stream)
    publisher = getattr(IPython.get_ipython(), "display_pub", None)
    hooked = hasattr(publisher, "register_hook")  # ipykernel's hooks are a thread's own
    if hooked:
        publisher.register_hook(_drop)
    before, _thread.quiet = getattr(_thread, "quiet", False), True
    try:
        yield
    finally:
        _thread.quiet = before
        if hooked:
            publisher.unregister_hook(_drop)


def _follow_the_thread(stream):
    """Make a stream drop what quiet threads write. (Exchanging sys.stdout would take the learner's prints along.)"""
    if stream is None or hasattr(stream, "_normcourse_quiet"):
        return
    write = stream.write
    with contextlib.suppress(AttributeError):  # a stream whose methods cannot be replaced stays as it is
        stream.write = lambda words: len(words) if getattr(_thread, "quiet", False) else write(words)
        stream._normcourse_quiet = True


def _drop(message):
    return None


def in_colab():
    """In Colab what is sent after a handler's end, by a thread, does not arrive: there, pictures are drawn in the
    handler of the move, before it ends, and threads only fill the cache."""
    return "google.colab" in sys.modules
