"""What a task forbids, and how a call of it is noticed: whatever name it goes by, inside `rules` it raises."""

import contextlib
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

PACKAGE = Path(__file__).parents[1]
LIBRARIES = tuple(str(Path(np.__file__).parents[1] / name) + os.sep for name in ("numpy", "pandas", "scipy"))
GUARD = 128  # elements behind a tensor
EVERYTHING = "*"  # in `Task.only`: kernels alone are watched, and the names of functions do not matter
UNWRITTEN = ("empty", "empty_like", "new_empty", "zeros", "zeros_like", "new_zeros")
PAST_THE_END = "a store went past the end of its tensor: is its mask missing?"


class ForbiddenCall(Exception):
    """The task is to be solved without what was called."""


def files(modules):
    """How the paths of the files of modules and packages of this course begin."""
    paths = [str(PACKAGE.parent.joinpath(*module.split("."))) for module in modules]
    return tuple(f"{path}{end}" for path in paths for end in (".py", os.sep))


@contextlib.contextmanager
def rules(task, watched=True):
    """Inside, calling what the task forbids raises `ForbiddenCall`, whatever name it goes by.

    watched: whether calls of Python's are looked at, too; for code that can reach neither NumPy nor the course's own
        modules this only takes time, more than most answers do.
    """

    given = []  # memory that a kernel may write to
    without, only, closed = frozenset(task.without), frozenset(task.only), files(task.closed)

    class Without(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            called = getattr(function, "__name__", "").split(".")[0]  # "layer_norm.default" is one, too
            name = called.strip("_")
            named = name in only and called != "__float__"  # x.float(), but no float(x)
            allowed = named or not only or EVERYTHING in only
            if name in without or not allowed:
                raise ForbiddenCall(name)
            result = function(*args, **(kwargs or {}))
            if "grad" in without and isinstance(result, torch.Tensor) and result.is_complex():
                raise ForbiddenCall("complex")  # a step along i has a derivative in it
            if only and name in UNWRITTEN and result.numel() and result.is_floating_point():
                result = guarded(result.fill_(torch.nan) if "empty" in name else result)
                given.append(result)
            return result

    def watch(frame, event, _):
        if event != "call":
            return
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if name == "<module>":
            return
        plainly = name.strip("_").removeprefix("nan")
        if plainly in without and file.startswith(LIBRARIES):
            raise ForbiddenCall(f"numpy.{plainly}")
        if file.startswith(closed):
            module = ".".join(Path(file).relative_to(PACKAGE.parent).with_suffix("").parts)
            raise ForbiddenCall(module if name.startswith("_") else f"{module}.{name}")

    before = sys.getprofile()
    if watched and (closed or without):
        sys.setprofile(watch)  # of this thread only: explorers go on drawing in theirs
    try:
        with Without():
            yield
        if any(not _behind(tensor).isnan().all() for tensor in given):
            raise IndexError(PAST_THE_END)
    finally:
        sys.setprofile(before)


def guarded(tensor):
    """The same values, followed in memory by NaN: what a kernel reads or writes past the end shows."""
    memory = tensor.new_full((tensor.numel() + GUARD,), torch.nan)
    memory[: tensor.numel()] = tensor.flatten()
    return memory[: tensor.numel()].view(tensor.shape)


def _behind(tensor):
    return tensor.as_strided((GUARD,), (1,), tensor.storage_offset() + tensor.numel())
