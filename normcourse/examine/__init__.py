"""The course's probes on any model made of repeated blocks: `examine` runs it once, forward and backward.

    from normcourse.examine import examine

    seen = examine(model, inputs)
    seen                 the report: what was found, in words, with numbers and the chapter that explains it
    seen.frame           a row a block: variance, gradient, update …
    seen.placements      a row a residual branch: the wiring that was found
    seen.findings        a row a finding
    seen.plot()          pictures

    repeats    the blocks, found by structure
    run        the two passes, watched block by block
    trace      every operation that is run, as a graph
    graph      … read: what passes values on, what holds weights, where norms are
    wirings    … and the wiring of every residual branch in it
    findings   what is worth knowing, and what is wrong
    report     the result: tables, words, closed forms
    pictures   its figure
    untouched  the model as it was before

On the command line: python -m normcourse.examine script.py:make_model
"""

import contextlib
import gc

from .repeats import repeated_blocks
from .report import Examination
from .run import Run
from .untouched import untouched
from .wirings import NOT_OURS

__all__ = ["NOT_OURS", "Examination", "examine", "repeated_blocks"]


def examine(model, *inputs, loss=None, blocks=None, **kwargs):
    """Run a model once, forward and backward, and say how it is wired and how it is.

    The model is left as it was, bit for bit: parameters, gradients, buffers, mode, hooks, random states. It runs in the
    mode it is in (`model.eval()` for the same numbers without dropout).

    Args:
        model: any `nn.Module` made of repeated blocks, on any device, in any dtype.
        inputs, kwargs: what it is called with.
        loss: function of its output giving a number. By default the loss that it returns itself (`output.loss`), else
            a random direction of unit length that is sent back from its first output.
        blocks: its blocks, as modules, or the name of what holds them; by default found by structure.

    Returns: `Examination`.
    Raises: ValueError where no blocks are found or none is run; whatever the model raises.
    """
    model = getattr(model, "_orig_mod", model)  # of torch.compile: its blocks have the names that they were given
    with untouched(model), _collected_later():
        return Examination(Run(model, inputs, kwargs, loss, repeated_blocks(model, blocks)))


@contextlib.contextmanager
def _collected_later():
    """So many nodes are made that Python's collector would look through all objects of the process several times."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
