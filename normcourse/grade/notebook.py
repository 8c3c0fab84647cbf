"""One submission as text: its cells, which of them are graded, and whether their code keeps the rules of the tasks.

Nothing here runs the code. What is graded is told by a marker in the cell itself, `# EXERCISE: name`, because copying
and Colab lose metadata; where that is gone, by nbgrader's metadata, and else by what a cell defines.
"""

import ast
import json
import re
import unicodedata
from dataclasses import dataclass, field

LARGEST = 20 << 20  # bytes
PARTS = 500_000  # objects and lists in its JSON
CODE = re.compile(r"^[ \t]*#[ \t]*EXERCISE:[ \t]*(\w+)", re.M)
ESSAY = re.compile(r"<!--\s*EXERCISE:\s*(\w+)\s*-->")


class Refused(Exception):
    """This cannot be graded; says why in both languages."""

    def __init__(self, zh, en):
        super().__init__(en)
        self.zh, self.en = zh, en


@dataclass
class Cell:
    """number: its position in the notebook, from 1. name: of the exercise it is marked for. tasks: graded from it."""

    number: int
    kind: str
    source: str
    name: str | None
    tasks: list = field(default_factory=list)


def read(content):
    """The cells of a notebook given as bytes, of format 3 or 4. Raises: Refused."""
    if len(content) > LARGEST:
        raise too_large(len(content))
    if content.count(b"{") + content.count(b"[") > PARTS:
        raise Refused(
            "文件里的结构多得可疑；清除输出之后再交。", "Too many parts; clear the outputs and hand it in again."
        )
    try:
        notebook = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise Refused(
            "不是 notebook：文件不是 JSON，可能没有传完。", "Not a notebook: the file is not JSON, perhaps cut short."
        ) from None
    sheets = notebook.get("worksheets") if isinstance(notebook, dict) else None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if isinstance(sheets, list):
        found = [sheet["cells"] for sheet in sheets if isinstance(sheet, dict) and isinstance(sheet.get("cells"), list)]
        cells = [cell for sheet in found for cell in sheet] if found else cells
    if not isinstance(cells, list):
        raise Refused("不是 notebook：文件里没有单元格。", "Not a notebook: there are no cells in the file.")
    return [_cell(number, cell) for number, cell in enumerate(cells, 1) if isinstance(cell, dict)]


def too_large(size):
    return Refused(
        f"文件有 {size >> 20} MB，上限是 {LARGEST >> 20} MB；清除输出之后再交。",
        f"The file has {size >> 20} MB; the limit is {LARGEST >> 20} MB. Clear the outputs and hand it in again.",
    )


def _cell(number, cell):
    source, kind, metadata = cell.get("source", cell.get("input", "")), cell.get("cell_type"), cell.get("metadata")
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    source = source if isinstance(source, str) else ""
    # A lone surrogate is valid JSON but not text.
    source, kind = source.encode("utf-8", "replace").decode(), kind if kind in ("code", "markdown") else "raw"
    marker = (CODE if kind == "code" else ESSAY).search(source)
    nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    name = marker[1] if marker else nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    return Cell(number, kind, source, name if isinstance(name, str) else None)


def mark(cells, tasks):
    """Say in each cell which of the tasks are graded from it, and return those that no cell is marked for. Where two
    are marked for the same, as after copying one, the later one counts, as it does in the notebook."""
    code = [cell for cell in cells if cell.kind == "code"]
    missing = []
    for name in tasks:
        found = [cell for cell in code if cell.name == name]
        if not found:
            found = [cell for cell in code if name in defined(cell.source)][-1:]
        for cell in found:
            cell.tasks.append(name)
        if not found:
            missing.append(name)
    return missing


def parsed(source):
    """The syntax tree of a cell, magics left out; None where it is no Python even so."""
    for attempt in (lambda: source, lambda: _plain(source)):
        try:
            return ast.parse(attempt())
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def _plain(source):
    from IPython.core.inputtransformer2 import TransformerManager

    source = re.sub(r"\A(\s*)%%(time|timeit|capture|prun)\b.*", r"\1", source)  # their cells are Python
    return TransformerManager().transform_cell(source)


def defined(source):
    """Names that a cell defines at its top level."""
    tree = parsed(source)
    names = set()
    for node in tree.body if tree else ():
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def only_defines(source):
    """Whether a cell does nothing but import, define functions and classes, assign, and call what the course's own
    notebooks call and a graded one does not do."""
    quick = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign)
    idle = re.compile(r"(language_switch|explore|check|get_ipython\(\)\.run_line_magic)\(")
    tree = parsed(source)
    return tree is not None and all(isinstance(s, quick) or idle.match(ast.unparse(s)) for s in tree.body)


# Rules ----------------------------------------------------------------------------------------------------------------

# What switches off the watch that is kept while a solution runs, or runs code that cannot be read here. No exercise
# needs any of it; found anywhere in a notebook, its tasks with rules earn nothing.
EVASIONS = {
    *("DisableTorchFunction", "DisableTorchFunctionSubclass", "_disabled_torch_function_impl", "__torch_function__"),
    *("TorchFunctionMode", "_pop_mode", "_pop_mode_temporarily", "__torch_dispatch__", "_C", "_VF", "_refs", "_decomp"),
    *("setprofile", "settrace", "_getframe", "f_back", "__subclasses__", "get_objects", "get_referrers", "CodeType"),
    *("ctypes", "cffi", "_ctypes", "marshal", "pickle", "_python_dispatch", "jit", "importlib", "mock", "inspect"),
    *("ast_transformers", "input_transformers_cleanup", "input_transformers_post", "input_transformer_manager"),
    *("run_cell", "ForbiddenCall", "attrgetter", "methodcaller", "get_field", "redispatch", "make_fx", "get_referents"),
    *("fx", "functorch", "_functorch", "_dynamo", "_inductor", "run_decompositions", "addaudithook", "builtins"),
    *("f_locals", "f_globals", "tb_frame", "gi_frame", "cr_frame", "ag_frame", "__code__", "__getattribute__"),
    *("runpy", "run_code", "ex", "ev", "safe_execfile", "co_filename", "codeop", "pkgutil", "pydoc", "zipimport"),
    *("_execution_engine", "_engine_run_backward", "run_backward", "__globals__", "__closure__", "__loader__"),
    *("InteractiveInterpreter", "InteractiveConsole", "cProfile", "pdb", "bdb", "doctest", "py_compile", "__spec__"),
    *("meta_path", "path_hooks", "DeviceContext"),
}
# What the watch itself is made of. A learner's notebook imports `check` from the package, and nothing below it.
INSIDE = ("normcourse.check.", "normcourse.grade")
TIMERS = {"timeit", "Timer"}  # of the module timeit: they run strings, too
MAGICS = {"run", "macro", "edit", "load", "loadpy", "rerun", "recall", "rep", "paste", "cpaste"}  # not from a cell
EVASIVE_NAMES = {"exec", "eval", "compile", "__import__", "__builtins__"}
_WORDS = "|".join(sorted(EVASIONS | EVASIVE_NAMES | TIMERS | {"getattr", "setattr", "modules", "dict"}))
SUSPICIOUS = re.compile(rf"\b_*({_WORDS}|normcourse\.(?:check\.|grade))_*|^\s*%|get_ipython", re.M)
LOOKUPS = {"globals", "locals", "vars"}  # by any name; in a graded cell only to hide one


def broken_rules(cells, tasks):
    """{task name: what in the code goes against its rules, as [(cell number, name)]}.

    In the definition that is graded, and in all that it uses from wherever in the notebook: the forbidden functions,
    imported, as an attribute, or by their name as a string; an alias is followed. Everywhere: `EVASIONS`. Names in
    comments, docstrings and messages do not count, and neither does what merely tries a solution out.
    """
    # Python reads identifiers in this normal form, so that ｅｘｅｃ is exec.
    trees = [
        (cell, parsed(unicodedata.normalize("NFKC", cell.source)) or ast.Module([], []))
        for cell in cells
        if cell.kind == "code"
    ]
    nodes = [
        (cell, node)
        for cell, tree in trees
        if cell.tasks or SUSPICIOUS.search(unicodedata.normalize("NFKC", cell.source))
        for node in ast.walk(tree)
    ]
    own = _variables(node for _, node in nodes)
    everywhere = [(cell.number, name) for cell, node in nodes if (name := _evasion(node, own))]
    definitions, graded = {}, {name for cell, _ in trees for name in cell.tasks}
    for cell, tree in trees:
        for statement in tree.body:
            for name in _bound(statement):
                if name not in graded or name in cell.tasks:  # what is graded stands in its own cell
                    definitions.setdefault(name, []).append((cell, statement))
    broken = {}
    for task in tasks.values():
        found = list(everywhere) if task.without or task.only or task.closed else []
        if task.without:
            parts = _used(task.name, definitions)
            inside = [(cell, node) for cell, statement in parts for node in ast.walk(statement)]
            aliases = {alias for _, node in inside for alias in _imported(node, task.without)} - graded
            found += [(cell.number, name) for cell, node in inside if (name := _forbidden(node, task.without, aliases))]
        broken[task.name] = list(dict.fromkeys(found))
    return broken


def _bound(statement):
    """The names that a statement of a cell gives a meaning, or changes: for `table[0].f = g` it is table."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    names = set()
    for node in ast.walk(statement):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Store):
            while isinstance(node, (ast.Attribute, ast.Subscript)):
                node = node.value
            if isinstance(node, ast.Name):
                names.add(node.id)
    return names


def _used(name, definitions):
    """The (cell, statement) that define a name and, in turn, all names that these use."""
    todo, seen, parts = [name], set(), {}
    while todo:
        if (one := todo.pop()) in seen:
            continue
        seen.add(one)
        for cell, statement in definitions.get(one, ()):
            parts[id(statement)] = cell, statement
            todo += [node.id for node in ast.walk(statement) if isinstance(node, ast.Name)]
    return list(parts.values())


def _variables(nodes):
    """Names of variables and parameters; none where a star import may have given them another meaning."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            return set()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (ast.arg, ast.ExceptHandler)):
            names.add(node.arg if isinstance(node, ast.arg) else node.name)
    return names


def _imported(node, without):
    """Names under which an import brings in forbidden functions of torch."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
        for alias in node.names:
            if alias.name.strip("_") in without:
                yield alias.asname or alias.name


def _evasion(node, own):
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("run_line_magic", "run_cell_magic"):
        magic, *text = [_text(argument) or "" for argument in node.args] or [""]
        words = re.findall(r"\w+", " ".join(text))
        return (
            f"%{magic}" if magic in MAGICS else next((word for word in words if word in EVASIONS | EVASIVE_NAMES), None)
        )
    if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in TIMERS:
        strings = [part for part in node.args if _text(part) is not None or isinstance(part, ast.JoinedStr)]
        return "timeit" if strings or any(keyword.arg in ("globals", "setup") for keyword in node.keywords) else None
    if isinstance(node, ast.Attribute) and node.attr == "modules" and getattr(node.value, "id", "") == "sys":
        return "sys.modules"
    if isinstance(node, ast.Attribute) and node.attr == "__dict__" and getattr(node.value, "id", "") != "self":
        return "__dict__"
    if isinstance(node, ast.MatchClass):
        return next((name for name in node.kwd_attrs if name in EVASIONS | {"__dict__"}), None)
    if isinstance(node, ast.Attribute) and node.attr in EVASIONS:
        return None if ast.unparse(node) == "triton.jit" else node.attr
    if isinstance(node, ast.Name) and node.id in (EVASIONS - own) | EVASIVE_NAMES:
        return node.id
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
        if inside := next((name for name in modules if name.startswith(INSIDE)), None):
            return inside
        if getattr(node, "module", None) == "sys" and any(alias.name == "modules" for alias in node.names):
            return "sys.modules"
        return next((part for module in modules for part in module.split(".") if part in EVASIONS), None)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr"):
        name = _text(node.args[1]) if len(node.args) > 1 else None
        return name if name in EVASIONS | EVASIVE_NAMES else None
    return None


def _forbidden(node, without, aliases):
    if isinstance(node, ast.Attribute) and node.attr.strip("_") in without:
        own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        return None if own else node.attr
    if isinstance(node, ast.Name) and node.id in aliases | LOOKUPS:
        return node.id
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
        return next((alias.name for alias in node.names if alias.name.strip("_") in without), None)
    if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
        "getattr",
        "__getattribute__",
    ):
        name = _text(node.args[-1 if isinstance(node.func, ast.Attribute) else 1]) if node.args else None
        return "getattr" if name is None else name if name.strip("_") in without else None
    if isinstance(node, ast.Subscript) and isinstance(node.value, (ast.Attribute, ast.Call)):
        name = _text(node.slice)
        return name if name and name.strip("_") in without else None
    if isinstance(node, ast.Attribute) and node.attr == "__dict__":
        return node.attr
    return None


def _text(node):
    """The string an expression is, if it is written out, even in parts."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left), _text(node.right)
        return None if left is None or right is None else left + right
    return None
