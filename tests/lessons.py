"""How tests get at what the cells of a lesson define, without running the lesson."""

import ast

from tools.build_notebooks import lessons, read


def definitions(number, *assigned):
    """The imports, functions and classes of a chapter's cells, and the assignments to these names.

    Args: number: of the chapter, as "03". assigned: names that its functions need besides; an assignment whose names
        are all among them is run, in the order of the lesson.
    Returns: {name: value}.
    """
    (lesson,) = lessons([number])
    space, missing = {"__name__": "chapter"}, set(assigned)
    for cell in read(lesson.source).cells[1:]:
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        kept = []
        for node in tree.body:
            names = {n.id for t in getattr(node, "targets", []) for n in ast.walk(t) if isinstance(n, ast.Name)}
            if any(ast.unparse(d) == "triton.jit" for d in getattr(node, "decorator_list", [])):
                continue  # triton reads the source of a kernel, which only a notebook's cell has
            if isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)):
                kept.append(node)
            elif isinstance(node, ast.Assign) and names <= set(assigned):
                kept.append(node)
                missing -= names
        tree.body = kept
        exec(compile(tree, f"<chapter {number}>", "exec"), space)
    assert not missing, f"chapter {number} assigns no {missing}"
    return space
