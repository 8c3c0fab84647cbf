"""An answer and what it uses, cut out of a notebook, for the second world (`world`)."""

import ast
import functools
import importlib
import pickle
import re
import symtable
import sys

from ..cells import parsed
from . import allowed

FILE = "<answer>"
CELL = 100_000  # line numbers of cell n begin at n times this
STAR = re.compile(r"import[\s\\]*\*")
WRITTEN = re.compile(r"\s*%%(?:write)?file[ \t]+(-a[ \t]+)?(?:\./)?(\w+)\.py[ \t]*\n")


class Words(str):
    """What `where` says; a text cannot make one."""


class NotUnderstood(Exception):
    """What the second world does not hold; says where and what. A text that has caught one can raise another, but has
    no words for it."""

    def __init__(self, words=""):
        super().__init__(words if type(words) is Words else "0:0: …")


def where(line, what):
    return Words(f"{line // CELL}:{line % CELL}: {what}")


def not_understood(what):
    """`NotUnderstood`, at the line of the answer that runs now."""
    frame = sys._getframe()
    while frame and frame.f_code.co_filename != FILE:
        frame = frame.f_back
    return NotUnderstood(where(frame.f_lineno if frame else 0, what))


class Part(list):
    """The code of a module: [(cell, its statements at the top level)]."""

    @functools.cached_property
    def binds(self):
        """[(index of the cell, statement, names that it binds or changes, those that a function it calls changes)]"""
        every = [one for _, statements in self for one in statements]
        calls = {function for one in every for function in _called(one)}
        functions = [one for one in every if isinstance(one, ast.FunctionDef) and one.name in calls]
        changing = {one.name: changed for one in functions if (changed := _changed(one))}
        called = lambda one: [name for function in _called(one) for name in changing.get(function, ())]  # noqa: E731
        return [(i, one, _bindings(one), called(one)) for i, (_, part) in enumerate(self) for one in part]


def read(cells):
    """{module: its `Part`} of the code: "" is the notebook, the others are the files that its cells write."""
    code = {"": Part()}
    for cell in cells:
        if cell.kind != "code" or cell.source.count("\n") >= CELL:  # else the next is blamed
            continue
        append, name = ((file := WRITTEN.match(cell.source)) and file.groups()) or (None, "")
        tree = parsed("\n" * file[0].count("\n") + cell.source[file.end() :] if file else cell.source)
        if name and not append:
            code[name] = Part()
        if tree:
            code.setdefault(name, Part()).append((cell, ast.increment_lineno(tree, CELL * cell.number).body))
    parts = [part for name, part in code.items() if name] + [code[""]]  # a star may bring what a star has brought
    starred = [body for part in parts for cell, body in part if STAR.search(cell.source)]
    for statement in [one for body in starred for one in body]:
        for node in ast.walk(statement):
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                node.names = [ast.alias(name) for name in _public(node.module, code)] or node.names
    return code


def _public(module, code):
    """Names that a star import of a module brings, where they are known."""
    if module in allowed.SPACES:
        held = vars(importlib.import_module(module))
        return held.get("__all__", [name for name in held if not name.startswith("_")])
    own = [name for _, body in code.get(module, ()) for one in body for name in _bindings(one)]
    return [name for name in dict.fromkeys(own) if not name.startswith("_")]


def cut(code, name):
    """(the statements that a name and all it uses need, {name: what is imported under it}); as a name was last bound up
    to the cell that is graded for it, else anywhere. code: a `Part`."""
    last = max((i for i, (cell, _) in enumerate(code) if name in cell.tasks), default=len(code) - 1)
    bound, later, imported, changes = {}, {}, {}, set()
    for i, statement, binds, called in code.binds:
        changes |= {(id(statement), name) for name in called}
        for one in [*binds, *called]:
            (bound if i <= last else later).setdefault(one, []).append(statement)
    wanted, todo, seen = {}, [(name, None)], set()
    while todo:
        one, before = todo.pop()
        if (one, before) in seen:
            continue
        seen.add((one, before))
        known = bound.get(one) or later.get(one) or []
        for statement in reversed([s for s in known if before is None or s.lineno < before] or known):
            for node in ast.walk(statement):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    imported |= {key: path for key, path in imports_of(node) if key == one}
            wanted[id(statement)] = statement
            used = _used(statement)
            place = None if isinstance(statement, DEFINES) else statement.lineno  # what runs there uses what was before
            todo += [(other, place) for other in sorted(used)]
            if (id(statement), one) in changes:  # what it changes was bound before
                continue
            if getattr(statement, "name", None) == one or (
                one not in used and not isinstance(statement, (*MAY_BIND, *DEFINES))
            ):
                break
    imports = (ast.Import, ast.ImportFrom)
    statements = [pickle.loads(pickle.dumps(s)) for s in wanted.values() if not isinstance(s, imports)]  # copies
    return sorted(statements, key=lambda s: (s.lineno, s.col_offset)), imported


def _used(statement):
    """Names of the top level that a statement uses; not its own local ones."""
    found, todo = set(), [symtable.symtable(ast.unparse(statement), FILE, "exec")]
    for table in todo:
        todo += table.get_children()
        found |= {
            s.get_name()
            for s in table.get_symbols()
            if s.is_declared_global() or (s.is_referenced() and (table is todo[0] or s.is_global()))
        }
    return found


DEFINES = (ast.FunctionDef, ast.ClassDef)
CHANGING = frozenset(
    ["add", "append", "clear", "extend", "insert", "pop", "remove", "reverse", "setdefault", "sort", "update"]
)
MAY_BIND = (ast.For, ast.While, ast.If, ast.With, ast.Try, ast.AugAssign, ast.Expr)


def _bindings(statement):
    """Names that a statement of the top level binds or changes."""
    if isinstance(statement, DEFINES):
        return [statement.name]
    if isinstance(statement, MAY_BIND):
        found = {one.name for one in ast.walk(statement) if isinstance(one, DEFINES)}
        for node in ast.walk(statement):
            found |= {name for name, _ in imports_of(node)}
            found |= _stored(node)
        return sorted(found)
    if isinstance(statement, (ast.Assign, ast.AnnAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return [name for node in ast.walk(statement) for name, _ in imports_of(node)]


def _stored(node):
    """The name, if any, that an expression binds or changes."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGING:
        node = node.func.value  # table.append(1)
    elif not isinstance(getattr(node, "ctx", None), ast.Store):
        return set()
    while isinstance(node, (ast.Attribute, ast.Subscript)):  # table[0] = 1
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _changed(function):
    """Names of the top level that are changed where a function, as `register` in `@register("a")`, is called."""
    stored = {name for node in ast.walk(function) for name in _stored(node)}
    return stored & _used(function) if stored else stored


def _called(statement):
    """Functions that a statement calls where it stands: decorators, and what stands by itself."""
    value = getattr(statement, "value", None)
    calls = statement.decorator_list if isinstance(statement, DEFINES) else [value] * isinstance(value, ast.Call)
    calls = [call.func if isinstance(call, ast.Call) else call for call in calls]
    return [call.id for call in calls if isinstance(call, ast.Name)]


def imports_of(node):
    """[(name, what it is: "torch.nn")] of an import."""
    if isinstance(node, ast.Import):
        return [(a.asname, a.name) if a.asname else (a.name.partition(".")[0],) * 2 for a in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(a.asname or a.name, f"{node.module}.{a.name}") for a in node.names]
    return []
