"""What a task is to be solved without is taken away from the process that answers. The rules in `check.rules` watch
from Python, where a submission may find a way round them; here there is nothing left to call:

    functions   those of the course's closed modules lose their code before any cell runs, and so do the decompositions
                that torch has of forbidden operators
    operators   those of torch lose their kernels: in C++, for whoever calls them, and for good
    gradients   the nodes that autograd makes meanwhile are counted
    patches     what cells have put in the place of functions that the watch is made of is taken out again
"""

import contextlib
import ctypes
import functools
import gc
import os
import sys
import types
from importlib.machinery import SourceFileLoader
from zipimport import zipimporter

import torch
from torch.overrides import TorchFunctionMode

from ..check import case as model
from ..check import rules, runner
from ..check.case import Answer
from ..check.rules import PACKAGE, ForbiddenCall, files
from ..check.runner import answer

TORCH = os.path.dirname(torch.__file__)
DECOMPOSITIONS = tuple(os.path.join(TORCH, name, "") for name in ("_refs", "_decomp", "_prims", "_inductor"))
OTHER_BACKENDS = ("MkldnnCPU", "NestedTensorCPU", "SparseCPU", "QuantizedCPU")

# Taken hold of before a cell can put something else in their place.
_library, _kernels, _nodes = torch._C._dispatch_library, torch._C._DispatchModule, torch._C._autograd._get_sequence_nr
_register, _keep_alive = _kernels.impl, ctypes.pythonapi.Py_IncRef


class Closing:
    """Made in the fork server, used in the process of a submission."""

    def __init__(self):
        functions = [f for f in gc.get_objects() if type(f) is types.FunctionType]
        self.by_file = _grouped(functions, f"{PACKAGE}{os.sep}", lambda code: code.co_filename)
        self.decompositions = _grouped(functions, DECOMPOSITIONS, lambda code: code.co_name.strip("_"))
        self.operators, self.closed, self.originals = _operators(), set(), _originals()
        self.begun = False

    def begin(self, tasks, unread=()):
        """Before any cell runs: take the code out of functions, so that nothing is left to copy, to trace or to wrap,
        and close what all tasks with rules forbid.

        unread: where files lie that cannot be imported either, as nobody has read them.
        """
        self.begun = True
        closed = files({module for task in tasks for module in task.closed})
        forbidden = [set(task.without) for task in tasks if task.without]
        everywhere = set.intersection(*forbidden) if forbidden else set()
        functions = [f for file, group in self.by_file.items() if file.startswith(closed) for f in group]
        for name in everywhere:
            functions += self.decompositions.get(name, [])
        for function, emptied in functions:
            function.__code__ = emptied
        self._close(everywhere)
        _import_nothing((*closed, *unread))

    def answer(self, solution, case, task, watched):
        """`check.runner.answer` without what the task forbids. watched: as for that."""
        if not self.begun:  # else no cell has run that could have put anything there
            self._restore()
        self._close(task.without)
        nodes = _nodes()
        given = answer(solution, case, task, watched)
        if "grad" in task.without and not case.gradients and _nodes() != nodes:
            return Answer(error="ForbiddenCall: grad")
        return given

    def _close(self, names):
        """From now on these operators raise `ForbiddenCall`. names: as in `Task.without`."""
        if names := set(names) - self.closed:
            library = _library("IMPL", "aten", "", __file__, 0)
            for name in names:
                for operator, backend in self.operators.get(name, ()):
                    _register(library, operator, backend, functools.partial(_forbidden, name))
            _keep_alive(ctypes.py_object(library))  # nobody has a handle to open them again
            self.closed |= names

    def _restore(self):
        for owner, names in self.originals:
            for name, value in names.items():
                if vars(owner).get(name) is value:
                    continue
                if value is None:  # it had inherited it
                    delattr(owner, name)
                else:
                    setattr(owner, name, value)


def gone(*arguments, **options):
    raise PermissionError("this exercise is to be solved without this function")


def _grouped(functions, paths, key):
    """{key of the code: [(function, the code of `gone` for it)]} of those whose files lie below these paths."""
    found = {}
    for function in functions:
        code = function.__code__
        if code.co_filename.startswith(paths):
            kept = {f"co_{name}": getattr(code, f"co_{name}") for name in ("freevars", "filename", "name")}
            found.setdefault(key(code), []).append((function, gone.__code__.replace(**kept)))
    return found


def _forbidden(name, *arguments, **options):
    raise ForbiddenCall(name)


def _operators():
    """{name: [(operator of torch with this name, backend)]}; names as `check.rules` compares them."""
    found = {}
    for operator in torch._C._dispatch_get_all_op_names():
        space, _, name = operator.partition("::")
        if space == "aten":
            others = [b for b in OTHER_BACKENDS if torch._C._dispatch_has_kernel_for_dispatch_key(operator, b)]
            found.setdefault(name.partition(".")[0].strip("_"), []).extend((name, b) for b in ("CPU", *others))
    return found


def _originals():
    """[(owner, {name: value})]: what the watch calls of torch, and what it is made of; None for what is inherited."""
    watch = [module.__loader__.get_code(module.__name__) for module in (model, rules, runner)]
    called = {name for code in watch for name in _names(code)}
    of_torch = [
        (owner, {name: vars(owner).get(name) for name in called}) for owner in (torch, torch.Tensor, torch.autograd)
    ]
    return of_torch + [(owner, dict(vars(owner))) for owner in (TorchFunctionMode, contextlib._GeneratorContextManager)]


def _names(code):
    """All names in a code object and in those of the functions within it."""
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _names(part)


def _import_nothing(paths):
    """Python files below these paths cannot be imported from now on."""

    def get_data(self, path, read=SourceFileLoader.get_data):
        if os.path.abspath(path).startswith(paths):
            raise ImportError(f"{path} cannot be imported while it is graded")
        return read(self, path)

    SourceFileLoader.__mro__[1].get_data = get_data  # FileLoader's, which compiled files are read by, too
    sys.path_hooks[:] = [hook for hook in sys.path_hooks if hook is not zipimporter]
