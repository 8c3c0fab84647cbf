"""What a cell shows ends when the cell runs again; and what looks through the names of a notebook while a cell runs;
and the Python of a cell."""

import ast
import re
import sys
import weakref

MANY_MAGICS = 300  # lines of a cell
_shown = {}  # cell: (run, what it made)


def close_when_run_again(thing):
    """Have `thing.close()` called as soon as another run of the cell that runs now makes something to show.

    The output that held it is gone by then, but ipywidgets, IPython's `Out` and the browser hold on to it. JupyterLab,
    Notebook 7, VS Code and Colab say which cell it is that runs; where nobody says it, nothing is closed.
    """
    cell, run = _running()
    if cell is None:
        return
    last_run, things = _shown.get(cell, (run, []))
    if last_run != run:
        for old in filter(None, (reference() for reference in things)):
            old.close()
        things = []
    _shown[cell] = run, [*things, weakref.ref(thing)]


def close_widgets(widget, keep=()):
    """Close a widget with all that belongs to it, its children, layout and style, but for those to `keep`."""
    import ipywidgets

    for child in getattr(widget, "children", ()):
        if child not in keep:
            close_widgets(child, keep)
    for name in ("layout", "style"):
        part = getattr(widget, name, None)
        if isinstance(part, ipywidgets.Widget):
            part.close()
    widget.close()


def _running():
    """The ids of the cell that runs and of this run of it."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    message = getattr(shell, "get_parent", dict)() or {}
    metadata = message.get("metadata", {})
    cell = metadata.get("cellId") or metadata.get("colab", {}).get("cell_id")
    return cell, message.get("header", {}).get("msg_id")


def beside_cells(function):
    """`function`, called again where a cell that runs in another thread adds a name to a dictionary that it looks
    through. It must look before it does anything else."""

    def again(*arguments):
        while True:
            try:
                return function(*arguments)
            except RuntimeError as error:
                if "changed size during iteration" not in str(error):
                    raise

    return again


def parsed(source):
    """The syntax tree of a cell, magics left out; None where it is no Python even so."""
    for attempt in (lambda: source, lambda: _plain(source)):
        try:
            return ast.parse(attempt())
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def _plain(source):
    if len(re.findall(r"^\s*[%!?]", source, re.M)) > MANY_MAGICS:
        raise ValueError("so many that IPython would take minutes")
    from IPython.core.inputtransformer2 import TransformerManager

    source = re.sub(r"\A(\s*)%%(time|timeit|capture|prun)\b.*", r"\1", source)  # their cells are Python
    return TransformerManager().transform_cell(source)
