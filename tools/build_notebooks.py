"""`make notebooks`: run the chapters' lesson.md and write notebooks/*.ipynb with their outputs.

Arguments: names to build, e.g. `01`; all by default. A widget cannot live in a file, so of each output that is a live
widget the picture and its alt text are stored; they are what a reader without a kernel sees.
"""

import sys
import time
from pathlib import Path
from typing import NamedTuple

import jupytext
import nbformat
from nbclient import NotebookClient

from normcourse.chapters import chapters

from . import ROOT
from .stamp import stamp, table

NOTEBOOKS = ROOT / "notebooks"
MAP = "<!-- map of the course -->"
WIDGET = "application/vnd.jupyter.widget-view+json"


class Text(NamedTuple):
    """A notebook to be: its name, as "03_layer_normalisation", and its text source."""

    name: str
    source: Path


def lessons(names=()):
    """The `Text`s of the chapters whose names start with one of `names` (of all without any)."""
    return chosen([Text(c.name, c.lesson) for c in chapters() if c.lesson], names)


def chosen(texts, names):
    """Those of the texts whose names start with one of `names`, all without any; SystemExit where there is none."""
    found = [text for text in texts if not names or text.name.startswith(tuple(names))]
    if not found:
        raise SystemExit(f"none of {', '.join(text.name for text in texts)} starts with {', '.join(names)}")
    return found


def read(source):
    """The notebook that a text source describes, with the first cell that installs the course, without outputs, and with
    ids that do not change from run to run."""
    text = source.read_text(encoding="utf-8").replace(MAP, _course_map())
    notebook = jupytext.reads(text, fmt="md:myst")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
    return stamp(notebook)


def _course_map():
    """The table of chapters in both languages, for the chapter that has the place for it."""
    blocks = [f'<div lang="{language}">\n\n{table(language)}\n\n</div>' for language in ("zh", "en")]
    return "\n".join(blocks)


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
    for name, source in lessons(sys.argv[1:]):
        start = time.monotonic()
        notebook = execute(read(source))
        target = NOTEBOOKS / f"{name}.ipynb"
        nbformat.write(notebook, target)
        print(f"{target.name}: {time.monotonic() - start:.0f} s, {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
