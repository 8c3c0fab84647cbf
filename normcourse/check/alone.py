"""Whether the judge will follow an answer by itself, said before it is handed in.

The judge takes an answer and what it uses out of the notebook and runs it in the second world (`world`). The same is
done here with the cells that were run, for a right answer to a task with rules, on the visible cases: there is nothing
in that world that could change the notebook. Nothing is said where this cannot be known: outside IPython, where the
name of the task is not the answer's, or where it would take long.
"""

import ast
import contextlib
import io
import re
import sys
import time
import warnings
from types import SimpleNamespace

import torch

from .allowed import MAGIC
from .comparison import compare
from .cutting import FILE, NotUnderstood, read, where
from .launches import interpreted
from .plainer import GUARDS, OURS
from .runner import answer
from .world import World

REFUSED = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await, ast.TryStar, ast.MatchMapping)


def unclear(task, solution, seconds):
    """None, or what to tell the author of a right answer that the judge will not follow: (中文, English).

    seconds: how long this may take.
    """
    if not (task.without or task.only or task.closed) or (task.only and not interpreted()):
        return None
    try:
        cells = _cells(task.name, solution)
        return _words(_found(task, cells, seconds), cells, task.only) if cells else None
    except (Exception, Late):  # the check has said what it has to say; this is beside it
        return None


def _cells(name, solution):
    """The cells that were run, each once, as it was run last; none where the answer is not what they call so."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or shell.user_ns.get(name) is not solution:
        return []
    last = {source: number for number, source in enumerate(shell.history_manager.input_hist_raw)}
    last = dict(sorted(last.items(), key=lambda cell: cell[1]))
    return [SimpleNamespace(number=n, kind="code", source=s, tasks=()) for s, n in last.items() if s.strip()]


def _found(task, cells, seconds):
    """None, or what the judge will find: an error as `Answer` has it, "" for other numbers."""
    with (
        contextlib.redirect_stdout(io.StringIO()),  # kernels print
        warnings.catch_warnings(action="ignore"),
        torch.random.fork_rng(devices=()),
        torch.set_grad_enabled(torch.is_grad_enabled()),
    ):
        try:
            alone = Alone(task, seconds).answer(read(cells), task.name)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        for case, right in zip(task.cases, task.right):
            given = answer(alone, case, task if task.only else None)  # with memory behind its tensors
            if compare(given, right, case):
                return given.error or ""
    return None


class Late(BaseException):
    """It takes too long; no answer catches this."""


class Alone(World):
    """The second world without RestrictedPython: it refuses the same, but is no wall."""

    def __init__(self, task, seconds):
        super().__init__(task)
        self.end = time.monotonic() + seconds

    @staticmethod
    def compiled(module):
        return compile(ast.fix_missing_locations(Guarded().visit(module)), FILE, "exec")

    def _look(self):
        if time.monotonic() > self.end:
            raise Late

    def _getattr(self, value, name):
        self._look()
        return super()._getattr(value, name)


class Guarded(ast.NodeTransformer):
    def visit(self, node):
        if isinstance(node, REFUSED) or type(node).__name__ == "TypeAlias":
            _refuse(node, f"{type(node).__name__} statements are not allowed.")
        return super().visit(node)

    def _named(self, node):
        name = getattr(node, "id", getattr(node, "arg", getattr(node, "name", None))) or ""
        bound = name == "super" and not isinstance(getattr(node, "ctx", None), ast.Load)
        if bound or (GUARDS.match(name) and not (isinstance(node, ast.Name) and name in OURS)):
            _refuse(node, name)
        return self.generic_visit(node)

    visit_Name = visit_arg = visit_MatchAs = visit_MatchStar = _named

    def visit_FunctionDef(self, node):
        return self.generic_visit(node) if node.name in MAGIC and node.col_offset else self._named(node)

    def visit_ClassDef(self, node):
        if any(keyword.arg == "metaclass" for keyword in node.keywords):
            _refuse(node, "metaclass")
        node = self._named(node)
        node.keywords = [ast.keyword("metaclass", ast.Name("__metaclass__", ast.Load()))]
        return node

    def visit_Constant(self, node):
        if type(node.value) is complex:
            _refuse(node, "complex")
        return node

    def visit_MatchClass(self, node):
        if not isinstance(node.cls, ast.Name) or node.patterns or node.kwd_patterns:
            _refuse(node, "case")
        return self.generic_visit(node)

    def visit_MatchValue(self, node):
        if isinstance(node.value, ast.Attribute):
            _refuse(node, "case")
        return self.generic_visit(node)

    def visit_Attribute(self, node):
        if GUARDS.match(node.attr):
            _refuse(node, f".{node.attr}")
        node = self.generic_visit(node)
        if isinstance(node.ctx, ast.Load):
            made = ast.Call(ast.Name("_getattr_", ast.Load()), [node.value, ast.Constant(node.attr)], [])
            return ast.copy_location(made, node)
        node.value = ast.copy_location(ast.Call(ast.Name("_write_", ast.Load()), [node.value], []), node)
        return node


def _refuse(node, what):
    raise NotUnderstood(where(getattr(node, "lineno", 0), what))


# In words -------------------------------------------------------------------------------------------------------------

LATER = (
    "所以交上去以后，这道题的分要等老师看过才定。",
    "so after you hand it in, this task gets its points only once your teacher has looked at it.",
)
ADVICE = {
    r"class ": (
        "从 torch.nn.Module 或自己的类派生的类，它看得懂。",
        "It follows classes derived from torch.nn.Module or your own.",
    ),
    r"\.?_": ("不用以下划线开头的特殊名字，它就看得懂。", "Without special names that begin with underscores it can."),
    r".* = …": (
        "只给自己的类的对象写属性，它就看得懂。",
        "It can where attributes are set on objects of your own classes only.",
    ),
    r"": (
        "只用 torch、math、numpy 里常用的函数和张量的方法，它就看得懂。",
        "It follows what is written with the usual functions of torch, math and numpy and with methods of tensors.",
    ),
}
ADVICE_ON_KERNELS = {
    r"kernel: ": (
        "核函数里只有 tl 的函数、别的核函数、算术、条件和循环时，它就看得懂。",
        "It follows kernels made of functions of tl, other kernels, arithmetic, conditions and loops.",
    ),
    r"launch: ": (
        "传给核函数的只有张量、数、文字和 tl 的数据类型，网格是整数的元组时，它就看得懂。",
        "It follows launches that are given tensors, numbers, text and dtypes of tl, with a tuple of int for the grid.",
    ),
    r"(?!class |\.?_|.* = …)": (
        "核函数以外的代码只分配内存、看形状、转换数据类型、启动核函数时，它就看得懂。",
        "Around the kernels it follows code that allocates, looks at shapes, converts dtypes and launches.",
    ),
}


def _words(found, cells, only):
    if found is None:
        return None
    kind, _, message = found.partition(": ")
    if kind == "ForbiddenCall":
        return (
            f"但是评分程序把 {message} 也算作这道题不能用的东西，用了没有分。",
            f"But the judge counts {message}, too, among what this task is to be solved without: no points.",
        )
    if kind == "NotUnderstood":
        return _not_followed(message, cells, only)
    missing = re.fullmatch(r"name '(\w+)' is not defined", message) if kind == "NameError" else None
    if missing:
        zh, en = f"在运行过的单元格里找不到 {missing[1]} 的定义", f"no cell that was run defines {missing[1]}"
    elif found:
        zh, en = (
            f"只带上它用到的代码运行时报错：{found[:150]}",
            f"with only the code that it uses it raises {found[:150]}",
        )
    else:
        zh, en = "只带上它用到的代码运行时得到别的数", "with only the code that it uses it gives other numbers"
    return (
        f"不过评分程序单独运行这个答案，{zh}，{LATER[0]}",
        f"The judge runs this answer by itself, and {en}, {LATER[1]}",
    )


def _not_followed(message, cells, only):
    cell, line, what = message.split(":", 2)
    what = what.strip()
    sources = {str(one.number): one.source.splitlines() for one in cells}
    lines = sources.get(cell, [])
    written = lines[int(line) - 1].strip()[:80] if 0 < int(line) <= len(lines) else ""
    zh, en = (f"这一行：“{written}”（{what}）", f"the line “{written}” ({what})") if written else (what, what)
    table = ADVICE_ON_KERNELS | ADVICE if only else ADVICE
    advice = next(words for pattern, words in table.items() if re.match(pattern, what))
    return (
        f"不过评分程序自己看不懂{' ' if zh[0].isascii() else ''}{zh}，{LATER[0]}{advice[0]}",
        f"The judge cannot follow {en} by itself, {LATER[1]} {advice[1]}",
    )
