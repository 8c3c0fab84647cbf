"""What Triton kernels do in the second world (`world`): only they compute, and what comes out is what they stored.

    Memory     what a launch may load and store; it notes what was stored
    Wrapper    what the code around the launches may do with tensors: nothing that turns their numbers into Python's
    Launches   the kernels of one answer, and what they stored

A wrapper that cannot read a number cannot compute one either. So tensors have no text here, no function of torch takes
one as a size or an index, and a launch that fails ends the answer, whoever catches its error.
"""

import ast
import contextlib
import sys
import threading
import types

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from .cutting import FILE, not_understood
from .kernels import Kernel, constant, plain
from .rules import ForbiddenCall

WITHOUT_TENSOR = {"empty", "zeros", "device", "set_grad_enabled"}  # functions that are given no tensor
LIKE = {"to", "type_as", "view_as"}  # those that may be given two
KEPT = {"to", "type", "type_as", "float", "half", "bfloat16", "double", "clone", "contiguous", "cpu", "reshape"}
KEPT |= {"flatten"}  # what these copy was stored if the original was


def interpreted():
    """Whether kernels run in Triton's interpreter here, and it is made as `Kernel` and `Memory` know it."""
    triton = sys.modules.get("triton")
    if triton is None or isinstance(triton.language.sum, triton.JITFunction):
        return False
    from triton.runtime import interpreter

    names = ("ASTTransformer", "InterpretedFunction", "interpreter_semantic", "_interpreter")
    return all(hasattr(interpreter, name) for name in names)


class Memory:
    """Takes the place of Triton's own loads and stores during a launch, in this thread: they stay within the tensors
    that it was given.

    stored: {address: (storage, for each of its bytes whether a kernel stored it)}, which it writes to.
    """

    def __init__(self, native, tensors, stored):
        self._native, self._thread = native, threading.get_ident()
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage.nbytes():
                stored.setdefault(storage.data_ptr(), (storage, np.zeros(storage.nbytes(), bool)))
        mine = sorted({tensor.untyped_storage().data_ptr() for tensor in tensors} & {*stored})
        self._bytes = [stored[address][1] for address in mine]
        self._begin = np.array(mine, np.uint64)
        self._end = np.array([address + len(part) for address, part in zip(mine, self._bytes)], np.uint64)

    def __getattr__(self, name):
        return getattr(self._native, name)

    def load(self, at, mask, other, dtype):
        self._look(at, mask, np.dtype(dtype).itemsize)
        return self._native.load(at, mask, other, dtype)

    def store(self, at, value, mask):
        self._look(at, mask, value.dtype.itemsize, stores=True)
        return self._native.store(at, value, mask)

    def atomic_rmw(self, operation, at, value, mask, order):
        self._look(at, mask, value.dtype.itemsize, stores=True)
        return self._native.atomic_rmw(operation, at, value, mask, order)

    def atomic_cas(self, at, old, new, order):
        self._look(at, np.ones(at.shape, bool), new.dtype.itemsize, stores=True)
        return self._native.atomic_cas(at, old, new, order)

    def _look(self, at, mask, size, stores=False):
        """Raises: IndexError where an address lies elsewhere."""
        if threading.get_ident() != self._thread:  # a launch of somebody else
            return
        at = at[np.broadcast_to(mask, at.shape).astype(bool)].astype(np.uint64)
        part = np.searchsorted(self._begin, at, "right") - 1
        if not at.size:
            return
        end = self._end[part] if len(self._end) else at
        if (part < 0).any() or (at >= end).any() or (end - at < size).any():
            raise IndexError("a load or store lies outside of the tensors that the kernel was given")
        for i in np.unique(part) if stores else ():
            first = (at[part == i] - self._begin[i]).astype(np.int64)
            self._bytes[i][(first[:, None] + np.arange(size)).ravel()] = True


class Instances(type):
    def __instancecheck__(cls, value):
        return isinstance(value, torch.Tensor)


class Tensor(metaclass=Instances):
    """`torch.Tensor` as the code around the launches sees it: the real one takes sizes from tensors unseen."""

    def __new__(cls, *arguments, **options):
        raise ForbiddenCall("Tensor")


class Wrapper(TorchFunctionMode):
    """Watches what the code around the launches does with tensors."""

    def __init__(self, launches):
        super().__init__()
        self.launches = launches

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name, kwargs = getattr(function, "__name__", "").strip("_"), kwargs or {}
        if name in ("repr", "format"):
            return "tensor(…)"
        first = 0 if name in WITHOUT_TENSOR else 2 if name in LIKE else 1
        if not plain([*args[first:], *(value for key, value in kwargs.items() if key not in ("input", "other"))]):
            raise ForbiddenCall(name)
        result = function(*args, **kwargs)
        if name in KEPT and isinstance(result, torch.Tensor) and args:
            self.launches.kept(args[0], result)
        return result


class Launches:
    """The kernels of one answer.

    Args:
        code: as `cutting.read` gives it.
        before: called before each launch.
    """

    def __init__(self, code, before):
        self.code, self.before, self.stored, self.error = code, before, {}, None

    def __deepcopy__(self, memo):
        return self  # else a copy of a kernel would keep its errors to itself

    def jit(self, function=None, **options):
        """`triton.jit`. options say how to compile. Raises: NotUnderstood."""
        if function is None:
            return self.jit
        if type(function) is not types.FunctionType or function.__code__.co_filename != FILE:
            raise not_understood("triton.jit")
        place = function.__code__.co_firstlineno, function.__code__.co_name
        statements = [one for part in self.code.values() for _, body in part for one in body]
        found = [node for one in statements for node in ast.walk(one) if _place(node) == place]
        if len(found) != 1:
            raise not_understood("triton.jit")
        return Kernel(found[0], function, self._launch)

    def run(self, function, *inputs):
        """What an answer returns; elements that no kernel stored are NaN."""
        self.stored, self.error = {}, None
        with Wrapper(self):
            returned = function(*inputs)
        if self.error is not None:
            raise self.error
        with torch._C.DisableTorchFunction():
            return self._as_stored(returned)

    def _launch(self, kernel, grid, /, *values, **options):
        tensors = [value for value in [*values, *options.values()] if type(value) is torch.Tensor]
        for value in [*values, *options.values()]:
            if type(value) is not torch.Tensor and not constant(value):
                raise not_understood(f"launch: {type(value).__name__}")
        grid = grid(kernel.bound(values, options)) if callable(grid) else grid
        if not isinstance(grid, tuple) or not all(type(size) is int for size in grid):
            raise not_understood("launch: grid")
        if self.error is not None:
            raise self.error
        ready = kernel.ready()
        self.before()
        try:
            with torch._C.DisableTorchFunction(), self._watched(tensors):
                ready.run(*values, grid=tuple(grid), warmup=False, **options)
        except Exception as error:
            self.error = error
            raise

    @contextlib.contextmanager
    def _watched(self, tensors):
        from triton.runtime import interpreter

        native = interpreter._interpreter
        interpreter._interpreter = Memory(native, tensors, self.stored)
        try:
            yield
        finally:
            interpreter._interpreter = native

    def kept(self, original, copied):
        """Of a copy all was stored if all of the original was."""
        with torch._C.DisableTorchFunction():
            storage = copied.untyped_storage()
            other = storage.data_ptr() != original.untyped_storage().data_ptr()
            if other and storage.nbytes() and self._part(original).all():
                self.stored[storage.data_ptr()] = storage, np.ones(storage.nbytes(), bool)

    def _part(self, tensor):
        """Which elements of a tensor were stored."""
        _, known = self.stored.get(tensor.untyped_storage().data_ptr(), (None, None))
        if known is None:
            return torch.zeros(tensor.shape, dtype=torch.bool)
        whole = torch.from_numpy(known[: len(known) // tensor.itemsize * tensor.itemsize])
        return whole.view(-1, tensor.itemsize).all(1).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def _as_stored(self, returned):
        if isinstance(returned, (tuple, list)):  # a namedtuple, too, whose own `__iter__` is not asked
            kind = tuple if isinstance(returned, tuple) else list
            return kind(map(self._as_stored, kind.__iter__(returned)))
        if not isinstance(returned, torch.Tensor) or not returned.is_floating_point() or returned.is_meta:
            return returned
        stored = self._part(returned)
        return returned if stored.all() else returned.detach().masked_fill(~stored, torch.nan)


def _place(node):
    """Where a function begins, and its name."""
    if not isinstance(node, ast.FunctionDef):
        return None
    return min([node.lineno, *(one.lineno for one in node.decorator_list)]), node.name
