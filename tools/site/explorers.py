"""The explorers of a lesson: of its cells each gets the statements that it needs, and no other is run."""

import ast
import contextlib
import hashlib
import io
import linecache
import signal
import time
from dataclasses import dataclass, field

from normcourse.explore.controls import controls_of

from ..build_notebooks import read

SHOWN = {"explore", "predict", "answer", "card", "finished", "overview", "language_switch", "print", "display", "check"}


class TookTooLong(Exception):
    """The statements that an explorer needs take more processor time than they were given."""


@dataclass
class Asked:
    """What a lesson asks `explore` for."""

    experiment: object
    draw: object
    size: tuple | None
    subplots: dict
    play: str | None
    controls: dict = field(default_factory=dict)


def ask(experiment, draw, /, *, size=None, subplots=None, play=None, **controls):
    """In `explore`'s place: the same arguments, no widget on any screen."""
    return Asked(experiment, draw, size, subplots or {}, play, controls_of(experiment, controls))


def cells(source):
    """[(statements, call)] of a lesson's code cells, `call` being the explorer that the cell ends with, or None."""
    found = []
    for cell in read(source).cells[1:]:
        if cell.cell_type == "code":
            statements = ast.parse(cell.source).body
            found.append((statements, explorer_of(statements)))
    return found


def explorer_of(statements):
    """The call of `explore` that a cell ends with, or None."""
    for node in statements:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _called(node) == "explore":
            return node.value
    return None


def needed(statements, call):
    """Those of the statements before a call that decide what it does: they bind, or change, a name that it or one of
    them reads, and that is not bound anew in between."""
    imported = {name for node in statements if isinstance(node, (ast.Import, ast.ImportFrom)) for name in _bound(node)}
    shown = [isinstance(node, ast.Expr) and _called(node) in SHOWN for node in statements]
    reads = [_read(node) for node in statements] + [_read(call)]
    writes = [set() if out else _written(node, imported) for node, out in zip(statements, shown)]
    anew = [_bound(node) if isinstance(node, ANEW) else set() for node in statements] + [set()]
    later = {i for i, node in enumerate(statements) if any(isinstance(part, LATER) for part in ast.walk(node))}
    kept, before = {len(statements)}, None

    def seen(name, i):
        """Whether what kept statements read under a name may be what statement i has left there."""
        if any(name in reads[k] for k in kept & later if k < i):  # a function may call one that is defined after it
            return True
        for k in range(i + 1, len(reads)):
            if k in kept and name in reads[k]:
                return True
            if name in anew[k]:
                return False
        return False

    while kept != before:
        before = {*kept}
        for i in range(len(statements) - 1, -1, -1):
            if i not in kept and any(seen(name, i) for name in writes[i]):
                kept.add(i)
    return [statements[i] for i in sorted(kept - {len(statements)})]


ANEW = (ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
LATER = (ast.FunctionDef, ast.ClassDef, ast.Lambda)  # what is read in these is read when they are called


def _called(node):
    return getattr(getattr(node.value, "func", None), "id", "")


COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _read(node):
    """The names that a piece of code reads from around it."""
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Load) else set()
    names = set().union(*map(_read, ast.iter_child_nodes(node)))
    if isinstance(node, (ast.FunctionDef, ast.Lambda)):
        given = node.args
        names -= {a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg) if a}
        names -= set().union(*map(_bound, node.body)) if isinstance(node, ast.FunctionDef) else set()
    if isinstance(node, COMPREHENSIONS):
        names -= {n.id for part in node.generators for n in ast.walk(part.target) if isinstance(n, ast.Name)}
    return names


def _bound(node):
    """The names that a statement binds."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    if isinstance(node, (*COMPREHENSIONS, ast.Lambda)):
        return set()
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Store) else set()
    return set().union(*map(_bound, ast.iter_child_nodes(node)))


SETTERS = ("set_", "manual_seed", "use_")  # so begin the functions of modules that change what later ones do


def _written(node, imported):
    """The names that a statement binds, and those whose objects it may change by a method or an assignment to a part.

    A function of what was imported changes nothing, unless its name says that it does.
    """
    names = _bound(node)
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return names
    for part in ast.walk(node):
        if isinstance(part, (ast.Attribute, ast.Subscript)) and isinstance(part.ctx, ast.Store):
            names |= _read(part.value)
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):  # called for what it does, not gives
            of = getattr(part.value.func, "value", None)
            if isinstance(of, ast.Name) and part.value.func.attr.startswith(SETTERS):
                names.add(of.id)
            elif of is not None:
                names |= _read(of) - imported
    return names


def explorers(source, seconds=None):
    """Each explorer of a lesson in order, as an `Asked`, or as the exception that its preparation ended with.

    Args: seconds: of processor time that the preparation of one may take. What one has run is not run again, unless
        another needs a statement before it.
    """
    space, done, before, slow = {"__name__": "lesson"}, [], [], set()
    for statements, call in cells(source):
        if call is not None:
            last = next(n for n in statements if isinstance(n, ast.Expr) and n.value is call)
            before += statements[: statements.index(last)]
            todo = [node for node in needed(before, call) if node not in done]
            if todo and done and before.index(todo[0]) < max(map(before.index, done)):
                space, done, todo = {"__name__": "lesson"}, [], needed(before, call)
            node, begun = None, 0.0
            try:
                if slow & {*todo}:
                    raise TookTooLong("needs what took too long before")
                with at_most(seconds), contextlib.redirect_stdout(io.StringIO()):
                    for node in todo:
                        begun = time.process_time()
                        _run(node, space, "exec")
                        done.append(node)
                    space["explore"] = ask  # the lesson imports the real one
                    found = _run(call, space, "eval")
            except Exception as error:
                found = error
                if isinstance(error, TookTooLong) and node is not None and time.process_time() - begun > seconds / 2:
                    slow.add(node)
            yield found
            statements = statements[statements.index(last) + 1 :]
        before += statements


def _run(node, space, how):
    """Run a statement, or an expression, that `inspect.getsource` can read afterwards, as in a notebook."""
    text = ast.unparse(node)
    file = f"<lesson {hashlib.sha256(text.encode()).hexdigest()[:12]}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    code = compile(text, file, how)
    return eval(code, space) if how == "eval" else exec(code, space)


@contextlib.contextmanager
def at_most(seconds):
    """Ends what runs in it by `TookTooLong` after so many seconds of this process's processor time; None: never."""
    if seconds is None or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_):
        raise TookTooLong(f"took more than {seconds} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
