"""The second world: an answer and what it uses, cut out of a notebook, in a Python that holds what `allowed` lists.

What is right here keeps the rules of its task: there are no imports, no names with underscores, no attributes but those
of the lists, so nothing that reaches frames, other code or C. The source is rewritten so that each look at an attribute
and each write goes through a function of `World`. What it does not understand raises `NotUnderstood`, which says where;
that is no verdict.

The judge rewrites it with RestrictedPython (`grade.restricted`). A learner's check, which need not be a wall, has a few
lines of its own for it (`alone`).
"""

import ast
import copy
import functools
import importlib
import operator
import re
import string
import sys

import torch

from . import allowed
from .cutting import CELL, FILE, cut, imports_of
from .rules import ForbiddenCall

GUARDS = re.compile(r"__|_.*_$")
WORDS = ("__name__", "__qualname__", "__doc__")
METHODS = {f"__{name}__" for name in allowed.MAGIC.split()}
OURS = ("_inplacevar_", "_import_", "_words_", "_type_")  # functions of `World` that `Plainer` calls
SIGNS = {ast.Mult: "*=", ast.Div: "/=", ast.Mod: "%=", ast.Pow: "**=", ast.Sub: "-=", ast.LShift: "<<=", ast.Add: "+="}
SIGNS |= {
    ast.RShift: ">>=",
    ast.BitOr: "|=",
    ast.BitAnd: "&=",
    ast.BitXor: "^=",
    ast.FloorDiv: "//=",
    ast.MatMult: "@=",
}
INPLACE = {"*=": operator.imul, "/=": operator.itruediv, "%=": operator.imod, "**=": operator.ipow, "-=": operator.isub}
INPLACE |= {"<<=": operator.ilshift, ">>=": operator.irshift, "|=": operator.ior, "&=": operator.iand}
INPLACE |= {"^=": operator.ixor, "//=": operator.ifloordiv, "@=": operator.imatmul, "+=": operator.iadd}


class NotUnderstood(Exception):
    """What the second world does not hold; says where and what."""


# Rewriting ------------------------------------------------------------------------------------------------------------


class Plainer(ast.NodeTransformer):
    """What RestrictedPython has no rule for, in words that it has rules for; annotations go."""

    def visit_Import(self, node):
        found = [(ast.Name(name, ast.Store()), ast.Constant(path)) for name, path in imports_of(node)]
        made = [ast.Assign([name], ast.Call(ast.Name("_import_", ast.Load()), [path], [])) for name, path in found]
        return [ast.fix_missing_locations(ast.copy_location(one, node)) for one in made]

    visit_ImportFrom = visit_Import

    def visit_Attribute(self, node):
        self.generic_visit(node)
        if node.attr not in WORDS or not isinstance(node.ctx, ast.Load):
            return node
        made = ast.Call(ast.Name("_words_", ast.Load()), [node.value, ast.Constant(node.attr)], [])
        return ast.fix_missing_locations(ast.copy_location(made, node))

    def visit_Name(self, node):
        named = node.id == "__name__" and isinstance(node.ctx, ast.Load)
        return ast.copy_location(ast.Constant("__main__"), node) if named else node

    def visit_Call(self, node):
        if isinstance(node.func, ast.Name) and node.func.id == "type" and len(node.args) == 1 and not node.keywords:
            node.func = ast.copy_location(ast.Name("_type_", ast.Load()), node.func)
        return self.generic_visit(node)

    def visit_ClassDef(self, node):
        plain = [one for one in node.decorator_list if not re.search(r"\bdataclass(\(.*\))?$", ast.unparse(one))]
        if len(plain) < len(node.decorator_list):  # its fields stand in the annotations, which go
            fields = [one for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)]
            names = [one.target.id for one in fields]
            lines = [f"def __init__({', '.join(['self', *names])}): pass", *(f"self.{name} = {name}" for name in names)]
            init, *sets = (ast.parse(line).body[0] for line in lines)
            init.args.defaults, init.body = (
                [copy.deepcopy(one.value) for one in fields if one.value],
                [*init.body, *sets],
            )
            for made in ast.walk(init):
                ast.copy_location(made, node.body[0])
            node.body.append(ast.fix_missing_locations(init))
            node.decorator_list = plain
        return self.generic_visit(node)

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_FunctionDef(self, node):
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node):
        self.generic_visit(node)
        made = ast.Assign([node.target], node.value) if node.value else ast.Pass()
        return ast.copy_location(made, node)

    def visit_AugAssign(self, node):
        self.generic_visit(node)
        if isinstance(node.target, ast.Name):
            return node
        old = copy.deepcopy(node.target)
        old.ctx = ast.Load()
        operation = ast.Constant(SIGNS[type(node.op)])
        value = ast.Call(ast.Name("_inplacevar_", ast.Load()), [operation, old, node.value], [])
        made = ast.copy_location(ast.Assign([node.target], value), node)
        return ast.fix_missing_locations(made)


# Running --------------------------------------------------------------------------------------------------------------


class Space:
    """A module of which one sees what is allowed."""

    def __init__(self, path):
        self.path = path

    def __call__(self, *arguments, **options):
        raise _not_understood(self.path)


def within(path):
    """What an allowed path such as "torch.nn.functional" is. Raises: NotUnderstood."""
    if path in allowed.SPACES:
        return Space(path)
    if not _holds(path):
        raise _not_understood(path)
    if path in allowed.STAND_INS:
        return allowed.STAND_INS[path]
    space, _, name = path.rpartition(".")
    return getattr(importlib.import_module(space), name)


def _holds(path):
    return (
        path in allowed.SPACES
        or path in allowed.STAND_INS
        or path.rpartition(".")[2] in allowed.SPACES.get(path.rpartition(".")[0], ())
    )


def _not_understood(what):
    frame = sys._getframe()
    while frame and frame.f_code.co_filename != FILE:
        frame = frame.f_back
    return NotUnderstood(where(frame.f_lineno if frame else 0, what))


def where(line, what):
    return f"{line // CELL}:{line % CELL}: {what}"


MODULE = frozenset(torch.nn.Module().__dict__)


class Words(string.Formatter):
    """`str.format` without looks at attributes and items."""

    def get_field(self, name, arguments, options):
        if {".", "["} & {*name}:
            raise _not_understood(f"format: {name}")
        return super().get_field(name, arguments, options)


def _words(value, name):
    """`value.__name__` and the like."""
    found = getattr(value, name, None) if name in WORDS else value  # a text may call this with any name
    if not isinstance(found, str | None):
        raise _not_understood(f".{name}")
    return found


class World:
    """What one task's answer lives in. A kind of it says how the source is rewritten and compiled."""

    compiled, known = None, {}

    def __init__(self, task):
        self.without, self.closed, self.own = frozenset(task.without), task.closed, set()
        for some, others in allowed.RELATIVES:
            if some & self.without:
                self.without |= others

    def answer(self, code, name):
        """The function or class of this name. Raises: NotUnderstood."""
        statements, imported = cut(code, name)
        module = ast.Module([Plainer().visit(statement) for statement in statements], [])
        compiled = self.compiled(ast.fix_missing_locations(module))
        known = self.known | {"__builtins__": allowed.BUILTINS, "__name__": "answer", "__metaclass__": self._class}
        known |= {f"_{kind}_": getattr(self, f"_{kind}") for kind in ("getattr", "write")}
        known |= {"_inplacevar_": lambda sign, old, value: INPLACE[sign](old, value)}
        known |= {"_import_": self._import, "_words_": _words, "_type_": self._type}
        for key, path in imported.items():  # what is not held is said only where it is used
            known[key] = self._import(path) if _holds(path) or self._is_closed(path) else Space(path)
        exec(compiled, known)
        if name not in known:
            raise NotUnderstood(where(0, name))
        return known[name]

    def _import(self, path):
        if self._is_closed(path):  # a module, or something in one
            return Space(path) if path in self.closed else functools.partial(_forbidden, path)
        return self._watched(path.rpartition(".")[2], within(path))

    def _is_closed(self, path):
        return any(f"{path}.".startswith(f"{module}.") for module in self.closed)

    def _watched(self, name, value):
        """What an attribute is, or what raises when it is called, if the task is to be solved without it."""
        if name.strip("_") in self.without and callable(value):
            return functools.partial(_forbidden, name.strip("_"))
        return value

    def _getattr(self, value, name):
        kind = type(value)
        if kind is Space:
            return self._import(f"{value.path}.{name}")
        if kind is str and name == "format":
            return functools.partial(Words().format, value)
        if isinstance(value, tuple) and name in getattr(kind, "_fields", ()):
            return getattr(value, name)
        if kind in self.own:
            parts = [vars(value), *(vars(base) for base in kind.__mro__ if base in self.own)]
            parts += [vars(value).get(part, ()) for part in ("_parameters", "_buffers", "_modules")]
            if name in allowed.MODULE or (name not in MODULE and any(name in part for part in parts)):
                return getattr(value, name)
        elif kind is type and value in self.own and name in vars(value):
            return getattr(value, name)
        elif any(isinstance(value, owner) and name in names for owner, names in allowed.ATTRIBUTES.items()):
            return self._watched(name, getattr(value, name))
        raise _not_understood(f"{kind.__name__}.{name}")

    def _type(self, value):
        kind = type(value)
        if kind not in self.own and kind not in allowed.KINDS:
            raise _not_understood(f"type: {kind.__name__}")
        return kind

    def _write(self, value):
        return Writer(value, type(value) in self.own)

    def _class(self, name, bases, space):
        if not all(base in (object, torch.nn.Module) or base in self.own for base in bases):
            raise _not_understood(f"class {name}")
        made = type(name, bases, space)
        self.own.add(made)
        return made


class Writer:
    """What is written to: items of anything that has some, attributes of objects of the answer's own classes."""

    __slots__ = ("own", "value")

    def __init__(self, value, own):
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "own", own)

    def __setitem__(self, key, item):
        self.value[key] = item

    def __delitem__(self, key):
        del self.value[key]

    def __setattr__(self, name, item):
        of_tensor = isinstance(self.value, torch.Tensor) and name in ("requires_grad", "grad", "data")
        if not (of_tensor or (self.own and name not in MODULE)):
            raise _not_understood(f"{type(self.value).__name__}.{name} = …")
        setattr(self.value, name, item)


def _forbidden(name, *arguments, **options):
    raise ForbiddenCall(name)
