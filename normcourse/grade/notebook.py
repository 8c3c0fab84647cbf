"""One submission as text: its cells, and which of them are graded.

Nothing here runs the code. What is graded is told by a marker in the cell itself, `# EXERCISE: name`, because copying
and Colab lose metadata; where that is gone, by nbgrader's metadata, and else by what a cell defines.
"""

import ast
import json
import re
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
