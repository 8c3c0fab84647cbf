"""The source of Triton kernels in the second world (`world`): `tl.*`, other kernels and arithmetic, and nothing else.

    Body      looks through it
    Kernel    what `@triton.jit` makes of a function; Triton's interpreter runs the very source that was looked through

`launches` is about what happens when they run.
"""

import ast
import copy
import functools
import types

import torch

from . import allowed
from .cutting import FILE, NotUnderstood, where
from .plainer import GUARDS

PLAIN = {bool, int, float, str, torch.dtype, torch.device, torch.layout, torch.memory_format, type(None), type(...)}
NODES = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.For, ast.While, ast.If, ast.Return, ast.Expr, ast.Assert)
NODES += (ast.Pass, ast.Break, ast.Continue, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Tuple)
NODES += (ast.List, ast.Subscript, ast.Slice, ast.JoinedStr, ast.FormattedValue, ast.keyword, ast.expr_context)
NODES += (ast.operator, ast.unaryop, ast.boolop, ast.cmpop)


def plain(value):
    """Whether a value is a number, a text, a dtype … or made of these: nothing that could run code of its own."""
    kind = type(value)
    if kind in (tuple, list, torch.Size):
        return all(map(plain, value))
    if kind is slice:
        return plain([value.start, value.stop, value.step])
    return kind in PLAIN


def constant(value):
    """Whether a kernel may be given a value that is no tensor."""
    import triton.language as tl

    if type(value) is tl.constexpr:
        value = value.value
    if type(value) is tuple:  # no list: what a kernel puts into one would come out of it
        return all(map(constant, value))
    return type(value) in PLAIN or type(value) is tl.dtype


class Body(ast.NodeVisitor):
    """Looks through a kernel. Raises: NotUnderstood.

    outside: {name that the kernel does not bind itself: {what is looked up in it, "" for itself: the first line}}.
    """

    def __init__(self, function):
        given, walked = function.args, list(ast.walk(ast.Module(function.body, [])))
        self.constants = {one.arg for one in given.args if is_constexpr(one)}
        self.own = {one.arg for one in given.args}
        self.own |= {node.id for node in walked if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
        self.outside = {}
        if given.vararg or given.kwarg or given.kwonlyargs or given.posonlyargs:
            _refuse(function, "*")
        for name in self.own:
            if GUARDS.match(name) or name == "interpreter_semantic":
                _refuse(function, name)
        for statement in function.body:
            self.visit(statement)

    def generic_visit(self, node):
        if not isinstance(node, NODES):
            _refuse(node, type(node).__name__.lower())
        super().generic_visit(node)

    def visit_Constant(self, node):
        if type(node.value) not in PLAIN:
            _refuse(node, ast.unparse(node))

    def visit_Name(self, node):
        if node.id not in self.own:
            self._note(node, node.id, "")

    def visit_Subscript(self, node):
        if not isinstance(node.ctx, ast.Load):
            _refuse(node, ast.unparse(node))
        self.generic_visit(node)

    def visit_Attribute(self, node):
        module = node.value  # tl, or tl.math
        if isinstance(module, ast.Attribute) and module.attr == "math":
            module = module.value
        if isinstance(node.ctx, ast.Load) and isinstance(module, ast.Name) and module.id not in self.own:
            self._note(node, module.id, node.attr)
        elif isinstance(node.ctx, ast.Load) and node.attr in allowed.OF_TILES:
            self.visit(node.value)
        else:
            _refuse(node, ast.unparse(node))

    def visit_Call(self, node):
        name = node.func.id if isinstance(node.func, ast.Name) else None
        known = (isinstance(one, ast.Constant) or getattr(one, "id", None) in self.constants for one in node.args)
        number = name in ("float", "int") and not all(known)  # a tile is no number
        if number or name in self.own or not isinstance(node.func, ast.Name | ast.Attribute):
            _refuse(node, ast.unparse(node.func))
        if any(keyword.arg is None for keyword in node.keywords):
            _refuse(node, "**")
        for part in (node.func, *node.args, *node.keywords):
            self.visit(part)

    def _note(self, node, name, attribute):
        if GUARDS.match(name) or name == "interpreter_semantic":
            _refuse(node, name)
        self.outside.setdefault(name, {}).setdefault(attribute, node.lineno)


def is_constexpr(parameter):
    """Whether a parameter is annotated so."""
    return parameter.annotation is not None and ast.unparse(parameter.annotation).strip("'\"").endswith("constexpr")


def _refuse(node, what):
    raise NotUnderstood(where(getattr(node, "lineno", 0), f"kernel: {what}"))


class Kernel:
    """What `@triton.jit` makes of a function. All that can be done with it is `kernel[grid](…)`."""

    __slots__ = ("_body", "_function", "_launch", "_made", "_node")

    def __init__(self, node, function, launch):
        """node: its definition. function: the same as a function, for its defaults and the names around it."""
        self._body, self._node, self._function, self._launch, self._made = Body(node), node, function, launch, None

    def __getitem__(self, grid):
        return functools.partial(self._launch, self, grid)

    def bound(self, values, options):
        """{parameter: what a launch gives for it}, as a grid that is a function sees it."""
        names, defaults = [one.arg for one in self._node.args.args], self._function.__defaults__ or ()
        return dict(zip(names[len(names) - len(defaults) :], defaults)) | dict(zip(names, values)) | options

    def ready(self):
        """Triton's own object for it. Raises: NotUnderstood for a name that a kernel may not use."""
        if self._made is None:
            import triton.language as tl
            from triton.runtime import interpreter

            node, defaults = copy.deepcopy(self._node), self._function.__defaults__ or ()
            if not all(map(constant, defaults)):
                _refuse(node, "=")
            node.decorator_list, node.args.defaults, node.returns = [], [], None
            for parameter in node.args.args:
                parameter.annotation = None
            space = {"__builtins__": allowed.IN_KERNELS, "__name__": "kernel", "_tl": tl}  # where Triton looks for it
            space["interpreter_semantic"] = interpreter.interpreter_semantic
            tree = interpreter.ASTTransformer().visit(ast.Module([node], []))
            exec(compile(ast.fix_missing_locations(tree), FILE, "exec"), space)
            function = space[node.name]
            function.__defaults__ = defaults or None
            function.__annotations__ = {name: tl.constexpr for name in self._body.constants}
            interpreter.InterpretedFunction.rewritten_fn[function] = function  # it need not look for the source
            self._made = interpreter.InterpretedFunction(function)
            for name, lines in self._body.outside.items():
                self._give(space, name, lines)
        return self._made

    def _give(self, space, name, lines):
        """Put what a name outside of the kernel stands for into its globals. lines: of `Body.outside`."""
        import triton
        import triton.language as tl

        around, attributes = self._function.__globals__, {*lines}
        if name not in around and name in allowed.IN_KERNELS and attributes == {""}:
            return
        value = around.get(name, name)  # a name that is nowhere is not understood either
        path = getattr(value, "path", None)
        if path == "triton.language" and attributes <= allowed.TL:
            space[name] = tl
        elif path == "triton" and attributes <= {"cdiv", "next_power_of_2"}:
            space[name] = types.SimpleNamespace(cdiv=triton.cdiv, next_power_of_2=triton.next_power_of_2)
        elif type(value) is Kernel and attributes == {""}:
            space[name] = value.ready()
        elif name in around and constant(value) and attributes <= allowed.OF_TILES | {""}:
            space[name] = value
        else:
            attribute = min(attributes - allowed.TL if path == "triton.language" else attributes)
            raise NotUnderstood(where(lines[attribute], f"kernel: {name}{'.' if attribute else ''}{attribute}"))
