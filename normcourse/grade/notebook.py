"""One submission as text: its cells, which of them are graded, and whether their code keeps the rules of the tasks.

Nothing here runs the code. What is graded is told by a marker in the cell itself, `# EXERCISE: name`, because copying
and Colab lose metadata; where that is gone, by nbgrader's metadata, and else by what a cell defines.
"""

import ast
import json
import re
import unicodedata
from dataclasses import dataclass, field

from ..cells import parsed

LARGEST = 20 << 20  # bytes
PARTS = 500_000  # objects and lists in its JSON
CODE = re.compile(r"^[ \t]*#[ \t]*EXERCISE:[ \t]*(\w+)", re.M)
CODE_STUB = "在这里写你的代码 · your code goes here"  # nbgrader_config.py puts it into what learners get
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
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        notebook, _ = json.JSONDecoder().raw_decode(text.lstrip())  # what some programs leave behind it is nothing
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
    are marked for the same, as after copying one, the later one counts, as it does in the notebook. A cell that still
    is as it was handed out counts only where there is no other that defines the name."""
    code = [cell for cell in cells if cell.kind == "code"]
    missing = []
    for name in tasks:
        found = [cell for cell in code if cell.name == name]
        written = [cell for cell in found if not _handed_out(cell.source) and name in defined(cell.source)]
        if not written:
            others = [cell for cell in code if not _handed_out(cell.source) and name in defined(cell.source)]
            found = [cell for cell in found if not others or not _handed_out(cell.source)] + others[-1:]
        for cell in written or found:
            cell.tasks.append(name)
        if not found:
            missing.append(name)
    return missing


def _handed_out(source):
    """Whether a function of the cell still ends at the stub, which may also stand in a comment or behind a return."""
    if CODE_STUB not in source:
        return False
    tree = parsed(source)
    for function in ast.walk(tree) if tree else ():
        for statement in function.body if isinstance(function, ast.FunctionDef) else ():
            if isinstance(statement, ast.Return):
                break
            if isinstance(statement, ast.Raise) and CODE_STUB in ast.unparse(statement):
                return True
    return tree is None


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


def definitions(source):
    """Of a cell's source the statements that import, define and assign: what its answers may need, without the
    experiments."""
    kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    tree = parsed(source)
    return [ast.unparse(statement) for statement in tree.body if isinstance(statement, kept)] if tree else []


def behind(source, line):
    """Of a cell's source, as IPython has made Python of it, the statements that begin behind a line."""

    def begins(statement):  # at its decorators, where one raises
        return min(part.lineno for part in (statement, *getattr(statement, "decorator_list", ())))

    return ast.unparse(ast.Module([s for s in ast.parse(source).body if begins(s) > line], []))


# Rules ----------------------------------------------------------------------------------------------------------------

# What a task forbids is closed where answers are given (`closed`), whatever a notebook says. What is looked for here
# can reach the machinery of that process: frames, the collector, the watch itself. Nothing else needs it; found
# anywhere in a notebook, its tasks with rules earn nothing.
EVASIONS = {
    *("_getframe", "_current_frames", "currentframe", "getouterframes", "getinnerframes", "f_back", "f_locals"),
    *("f_globals", "tb_frame", "gi_frame", "cr_frame", "ag_frame", "get_objects", "get_referrers", "get_referents"),
    *("__globals__", "__closure__", "__subclasses__", "__builtins__", "builtins", "setprofile", "settrace"),
    *("addaudithook", "ctypes", "_ctypes", "cffi", "CodeType", "attrgetter", "methodcaller", "get_field"),
    *("TorchFunctionMode", "DisableTorchFunction", "DisableTorchFunctionSubclass", "_disabled_torch_function_impl"),
    *("__torch_function__", "__torch_dispatch__", "_pop_mode", "_pop_mode_temporarily", "_python_dispatch"),
    *("_pop_torch_function_stack", "DeviceContext", "_VF", "_refs", "_decomp", "redispatch", "make_fx", "fx"),
    *("functorch", "_functorch", "_inductor", "run_decompositions", "ForbiddenCall", "ast_transformers"),
    *("_execution_engine", "_engine_run_backward", "run_backward", "input_transformers_cleanup"),
    *("input_transformers_post", "input_transformer_manager"),
}
RUN_TEXT = {"exec", "eval", "compile", "__import__"}
MAGICS = {"run", "macro", "edit", "load", "loadpy", "rerun", "recall", "rep", "paste", "cpaste"}  # not from a cell
_WORDS = "|".join(sorted(EVASIONS | RUN_TEXT | {"getattr", "setattr", "import_module"}))
SUSPICIOUS = re.compile(rf"\b_*({_WORDS})_*|^\s*%|get_ipython", re.M)


def evasions(cells):
    """What in the code goes round the rules of tasks, as [(cell number, name)]. Names in comments, docstrings and
    messages do not count, and neither do a notebook's own variables of such a name."""
    nodes = []
    for cell in cells:
        # Python reads identifiers in this normal form, so that ｅｘｅｃ is exec.
        source = unicodedata.normalize("NFKC", cell.source)
        if cell.kind == "code" and SUSPICIOUS.search(source):
            nodes += [(cell.number, node) for node in ast.walk(parsed(source) or ast.Module([], []))]
    own = _variables(node for _, node in nodes)
    harmless = {id(node.func) for _, node in nodes if isinstance(node, ast.Call) and _runs_known_text(node, own)}
    return [(number, name) for number, node in nodes if id(node) not in harmless and (name := _evasion(node, own))]


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


def _runs_known_text(call, own):
    """Whether it is eval("1 + 1"), say, of a text that is written out and holds no evasion."""
    text = _text(call.args[0]) if call.args else None
    tree = None if text is None else parsed(text)
    return tree is not None and not any(_evasion(node, own) for node in ast.walk(tree))


def _evasion(node, own):
    if isinstance(node, ast.MatchClass):
        return next((name for name in node.kwd_attrs if name in EVASIONS), None)
    if isinstance(node, ast.Attribute) and node.attr in EVASIONS:
        return node.attr
    if isinstance(node, ast.Name) and node.id in (EVASIONS - own) | RUN_TEXT:
        return node.id
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
        return next((part for module in modules for part in module.split(".") if part in EVASIONS), None)
    if isinstance(node, ast.Call):
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        return _evasive_call(getattr(node.func, "attr", getattr(node.func, "id", "")), given)
    return None


def _evasive_call(function, arguments):
    texts = [_text(argument) for argument in arguments]
    if function in ("run_line_magic", "run_cell_magic"):
        words = re.findall(r"\w+", " ".join(text or "" for text in texts))
        return (
            f"%{texts[0]}" if texts and texts[0] in MAGICS else next((word for word in words if word in EVASIONS), None)
        )
    if function == "import_module" and texts[:1] == [None]:
        return function
    if function in ("getattr", "setattr", "import_module"):
        return next((part for text in texts if text for part in text.split(".") if part in EVASIONS), None)
    return None


def _text(node):
    """The string an expression is, if it is written out, even in parts."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left), _text(node.right)
        return None if left is None or right is None else left + right
    return None
