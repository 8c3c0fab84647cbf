"""`make notebooks`: run notebooks/source/*.md and write notebooks/*.ipynb with their outputs.

Arguments: names to build, e.g. `01`; all by default. A widget cannot live in a file, so of each output that is a live
widget the picture and its alt text are stored; they are what a reader without a kernel sees.
"""

import sys
import time

import jupytext
import nbformat
from nbclient import NotebookClient

from . import ROOT
from .stamp import stamp

NOTEBOOKS = ROOT / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"


def sources(names=()):
    """The text sources whose names start with one of `names` (all without any)."""
    found = [p for p in sorted((NOTEBOOKS / "source").glob("*.md")) if not names or p.name.startswith(tuple(names))]
    if not found:
        raise SystemExit(f"no source in {NOTEBOOKS / 'source'} starts with {', '.join(names)}")
    return found


def read(source):
    """The notebook that a text source describes, with the first cell that installs the course, without outputs, and with
    ids that do not change from run to run."""
    notebook = jupytext.read(source)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
    return stamp(notebook)


def execute(notebook, timeout=300, folder=NOTEBOOKS):
    NotebookClient(
        notebook, timeout=timeout, store_widget_state=False, resources={"metadata": {"path": folder}}
    ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_still, cell.outputs) if output is not None]
    return notebook


def _still(output):
    """The output without its widget; None for a widget with no picture and no words, such as a progress bar."""
    data = output.get("data", {})
    if data.pop(WIDGET, None) is None or "image/png" in data:
        return output
    return output if output["output_type"] == "execute_result" else None


def main():
    for source in sources(sys.argv[1:]):
        start = time.monotonic()
        notebook = execute(read(source))
        target = NOTEBOOKS / f"{source.stem}.ipynb"
        nbformat.write(notebook, target)
        print(f"{target.name}: {time.monotonic() - start:.0f} s, {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
