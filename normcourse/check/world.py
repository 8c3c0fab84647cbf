"""The second world: an answer and what it uses, cut out of a notebook, in a Python that holds what `allowed` lists.

What is right here keeps the rules of its task: there are no imports, no names with underscores, no attributes but those
of the lists, so nothing that reaches frames, other code or C. The source is rewritten so that each look at an attribute
and each write goes through a function of `World`. What it does not understand raises `NotUnderstood`, which says where;
that is no verdict.

Where a task asks for Triton kernels, they alone compute (`launches`).

The judge rewrites it with RestrictedPython (`grade.restricted`). A learner's check, which need not be a wall, has a few
lines of its own for it (`alone`).
"""

import ast
import builtins
import functools
import importlib
import inspect
import operator
import string

import numpy
import torch

from . import allowed, kinds, real
from .case import tensors
from .cutting import NotUnderstood, cut, not_understood, where
from .launches import Launches, Tensor
from .plainer import GUARDS, WORDS, Plainer
from .rules import ForbiddenCall
from .writer import INPLACE, MODULE, Writer


class Arrays(type):
    """The kind of `numpy.ndarray` as one can ask about it. The real one, called, makes arrays of any memory."""

    def __instancecheck__(self, value):
        return isinstance(value, numpy.ndarray)

    def __call__(self, *arguments, **options):
        raise not_understood("numpy.ndarray")


ARRAYS = Arrays("ndarray", (), {})


class Builtins(dict):
    """The built-in names; of those that are not held it says where they are used."""

    def __missing__(self, name):
        raise not_understood(name) if hasattr(builtins, name) else KeyError(name)


class Space:
    """A module of which one sees what is allowed."""

    def __init__(self, path):
        self.path = path

    def __call__(self, *arguments, **options):
        raise not_understood(self.path)


def within(path, spaces=allowed.SPACES):
    """What an allowed path such as "torch.nn.functional" is. Raises: NotUnderstood."""
    if path in spaces:
        return Space(path)
    if not _holds(path, spaces):
        raise not_understood(path)
    if path in allowed.STAND_INS:
        return allowed.STAND_INS[path]
    if path == "numpy.ndarray":
        return ARRAYS
    space, _, name = path.rpartition(".")
    return getattr(importlib.import_module(space), name)


def _holds(path, spaces=allowed.SPACES):
    space, _, name = path.rpartition(".")
    stands = path in allowed.STAND_INS and (path != "copy.deepcopy" or space in spaces)
    return path in spaces or stands or name in spaces.get(space, ())


class Format(string.Formatter):
    """`str.format` without looks at attributes and items."""

    def get_field(self, name, arguments, options):
        if {".", "["} & {*name}:
            raise not_understood("str.format")  # the name may have been computed
        return super().get_field(name, arguments, options)


CLASSES = (type, kinds.Members)


def _behind(value):
    """The classes in which a `super()` looks, and whether it does so for a module."""
    here, kind, of = (getattr(super, f"__{part}__").__get__(value) for part in ("thisclass", "self_class", "self"))
    return kind.__mro__[kind.__mro__.index(here) + 1 :] if kind else (), isinstance(of, torch.nn.Module)


def _words(value, name):
    """`value.__name__` and the like."""
    found = getattr(value, name, None) if name in WORDS else value  # a text may call this with any name
    if not isinstance(found, str | None):
        raise not_understood(f".{name}")
    return found


class World:
    """What one task's answer lives in. A kind of it says how the source is rewritten and compiled."""

    compiled, known = None, {}

    def __init__(self, task):
        self.without, self.closed, self.own = frozenset(task.without), task.closed, set(kinds.BASES)
        self.only = bool(task.only)  # then kernels compute, and nothing else
        self.held = allowed.BESIDE_KERNELS if self.only else allowed.SPACES
        self.real = real.watched if "grad" in self.without else lambda value: value
        for some, others in allowed.RELATIVES:
            if some & self.without:
                self.without |= others

    def answer(self, code, name):
        """The function or class of this name. code: as `cutting.read` gives it. Raises: NotUnderstood."""
        self.code, self.spaces, self.ours = code, {}, {}
        if not self.only:
            return self._member("", name)
        launches = Launches(code, self._look)
        self.ours = {"triton.jit": launches.jit, "torch.Tensor": Tensor}
        return functools.partial(launches.run, self._member("", name))

    def _member(self, module, name):
        """What a name of the notebook, "", or of a module that it writes stands for."""
        if GUARDS.match(name):
            raise not_understood(name)
        if module not in self.spaces:
            names = Builtins(allowed.BUILTINS | {"pow": self.real(pow)})
            space = self.known | {"__builtins__": names, "__name__": "answer"}
            space |= {
                "__metaclass__": self._class,
                "_init_": self._init,
                "_import_": self._brought,
                "_power_": self.real(operator.pow),
                "_getitem_": self.real(operator.getitem),
            }
            space |= {f"_{kind}_": getattr(self, f"_{kind}") for kind in ("getattr", "write", "type")}
            space |= {"_inplacevar_": lambda sign, *values: self.real(INPLACE[sign])(*values)}
            space |= {"_words_": _words, "_has_": self._has, "_get_": self._get, "_set_": self._set}
            self.spaces[module] = space, set()
        space, done = self.spaces[module]
        if name not in done:
            done.add(name)
            statements, imported = cut(self.code[module], name)
            new = {(one.lineno, one.col_offset): one for one in statements}
            fresh = [Plainer(module).visit(one) for place, one in new.items() if place not in done]
            done.update(new)
            compiled = self.compiled(ast.fix_missing_locations(ast.Module(fresh, [])))
            for key, path in imported.items():
                if GUARDS.match(key) or key == "super":  # none of what the rewritten source calls
                    raise not_understood(key)
                space[key] = self._brought(path)
            exec(compiled, space)
        if name not in space:
            raise NotUnderstood(where(0, name))
        return space[name]

    def _look(self):
        """Called again and again while the answer runs."""

    def _knows(self, path):
        return _holds(allowed.SAME.get(path, path), self.held) or (self.only and _computes(path))

    def _brought(self, path):
        """What an import brings; what is not held is said only where it is used."""
        known = self._knows(path) or self._is_closed(path) or self._is_written(path) or path == "dataclasses.replace"
        return self._import(path) if known else Space(path)

    def _import(self, path):
        path = allowed.SAME.get(path, path)
        if path in self.ours:
            return self.ours[path]
        if self._is_closed(path):  # a module, or something in one
            return Space(path) if path in self.closed else functools.partial(_forbidden, path)
        if path == "dataclasses.replace":
            return self._replace
        if self._is_written(path):
            module, _, name = path.partition(".")
            return self._member(module, name) if name else Space(path)
        if self.only and _computes(path):
            return Space(path) if path in allowed.SPACES else functools.partial(_instead_of_kernels, path)
        return self._watched(path.rpartition(".")[2], within(path, self.held))

    def _is_written(self, path):
        """Whether it is of a module that the notebook writes; one that is called like a library is not found first."""
        root = path.partition(".")[0]
        return root in self.code and not any(f"{space}.".startswith(f"{root}.") for space in self.held)

    def _is_closed(self, path):
        return any(f"{path}.".startswith(f"{module}.") for module in self.closed)

    def _watched(self, name, value):
        """What an attribute is, or what raises when it is called, if the task is to be solved without it."""
        if name.strip("_") in self.without and callable(value):
            return functools.partial(_forbidden, name.strip("_"))
        return self.real(value)

    def _getattr(self, value, name):
        kind = type(value)
        if kind is Space:
            return self._import(f"{value.path}.{name}")
        if kind is str and name == "format":
            return functools.partial(Format().format, value)
        parts = getattr(kind, "__match_args__", ()) if isinstance(value, tuple) else ()  # also of x.max(-1)
        if name in parts or (parts and name in ("_asdict", "_replace") and hasattr(kind, name)):
            return getattr(value, name)
        if kind in self.own:
            parts = [vars(value).get(part, ()) for part in ("_parameters", "_buffers", "_modules")]
            bases = [base in self.own for base in kind.__mro__ if name in vars(base)]  # the first is what is found
            held = name in vars(value) or (bases[0] if bases else any(name in part for part in parts))
            if name in allowed.MODULE or (name not in MODULE and held):
                return getattr(value, name)
        elif kind in (*CLASSES, super) and self._inherits(value, name):
            return getattr(value, name)
        elif self.only and isinstance(value, torch.Tensor):
            if name in allowed.TENSOR_BESIDE_KERNELS:
                return getattr(value, name)
            if name in allowed.ATTRIBUTES[torch.Tensor]:
                return functools.partial(_forbidden, name.strip("_"))
        elif any(value is owner and name in names for owner, names in allowed.METHODS.items()) or any(
            isinstance(value, owner) and name in names for owner, names in allowed.ATTRIBUTES.items()
        ):
            return self._watched(name, getattr(value, name))
        raise not_understood(f"{kind.__name__}.{name}")

    def _inherits(self, value, name):
        """Whether the name, of a class or `super()`, is from a class of the answer's own, or of all modules."""
        bases, module = (value.__mro__, False) if type(value) in CLASSES else _behind(value)
        owner = next((base for base in bases if name in vars(base)), None)
        return owner in self.own or (module and owner is torch.nn.Module and name in allowed.MODULE)

    def _set(self, value, name, item):
        """`setattr`; what may be written to, and under which names, is what `Writer` says."""
        if type(name) is not str or name.startswith("_") or not self._write(value).takes(name, item):
            raise not_understood("setattr")  # the name may have been computed
        setattr(value, name, item)

    def _init(self, base, *arguments, **options):
        """`Base.__init__(self)`, or `super().__init__()` of an object of the answer's own."""
        known = isinstance(base, type) and (base is torch.nn.Module or base in self.own)
        bound = type(base) is super
        value = getattr(super, "__self__").__get__(base) if bound else arguments[0] if arguments else None  # noqa: B009
        if type(value) not in self.own or not (bound or (known and isinstance(value, base))):
            raise not_understood(".__init__")
        base.__init__(*arguments, **options)

    def _replace(self, value, **changes):
        """`dataclasses.replace`."""
        if type(value) not in self.own:
            raise not_understood("dataclasses.replace")
        return type(value)(**(vars(value) | changes))

    def _has(self, value, name):
        """`hasattr`; of what is there and not held it says neither."""
        if type(name) is not str or name.startswith("_"):
            raise not_understood("hasattr")
        try:
            self._getattr(value, name)
        except AttributeError:
            return False
        except NotUnderstood:
            if type(value) is Space and value.path in self.held:
                value = importlib.import_module(value.path)
            if type(value) is Space or inspect.getattr_static(value, name, self) is not self:
                raise
            return False
        return True

    def _get(self, value, name, *default):
        if self._has(value, name) or not default:
            return self._getattr(value, name)
        return default[0]

    def _type(self, value):
        kind = type(value)
        if kind not in self.own and kind not in allowed.KINDS:
            raise not_understood(f"type: {kind.__name__}")
        if self.only and kind is torch.Tensor:
            return Tensor
        return ARRAYS if kind is numpy.ndarray else kind

    def _write(self, value):
        own_class = type(value) is type and value in self.own and value not in kinds.BASES
        return Writer(value, type(value) in self.own or own_class)

    def _class(self, name, bases, space):
        if any(isinstance(base, kinds.Members) for base in bases):  # (str, Enum): equal to a text, but none
            bases = tuple(kinds.Valued if base is int or base is str else base for base in bases)
            bases = tuple(base for base in bases if base is not kinds.Enum) if kinds.Valued in bases else bases
        if not all(isinstance(base, type) and self._may_derive(base) for base in bases):
            raise not_understood(f"class {name}")
        kind = next((type(base) for base in bases if isinstance(base, kinds.Members)), type)
        errors = [base for base in bases if issubclass(base, Exception)]  # whose names are not of the answer's choice
        made = kind(errors[0].__name__ if errors else name, bases, space)
        self.own.add(made)
        return made

    def _may_derive(self, base):
        named = base.__bases__ == (tuple,) and hasattr(base, "_fields")  # a namedtuple
        return base in (object, torch.nn.Module) or base in allowed.ERRORS or named or base in self.own


def _computes(path):
    """Whether a path is of torch or NumPy, and an answer made of kernels is to be written without it."""
    known = path.startswith(("torch.", "numpy.")) and _holds(path)
    return known and not _holds(path, allowed.BESIDE_KERNELS)


def _instead_of_kernels(path, *arguments, **options):
    if not tensors([arguments, options]):
        raise not_understood(path)  # it may be about shapes
    raise ForbiddenCall(path if path.startswith("numpy.") else path.rpartition(".")[2])


def _forbidden(name, *arguments, **options):
    raise ForbiddenCall(name)
