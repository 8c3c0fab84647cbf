"""`make stamp`: what depends on the repository's address and the version, written where learners meet it.

The first cell of every notebook and exercise, and the table of chapters with its badges in README.md. Both come from
pyproject.toml alone; tests compare. Nothing is run again: outputs stay as they are.
"""

import nbformat

from . import ROOT, repository, version

STORED = ("notebooks/*.ipynb", "exercises/*/*.ipynb", "solutions/*/*.ipynb")
FIRST_CELL = """\
# 在 Colab 和 Kaggle 上安装课程（不动 torch） · installs the course on Colab and Kaggle, leaves torch alone
import importlib.util
import os
import sys

if importlib.util.find_spec("normcourse") is None:
    if "google.colab" not in sys.modules and "KAGGLE_KERNEL_RUN_TYPE" not in os.environ:
        raise ImportError('没有装课程，在终端运行 · not installed; run in a terminal: pip install "normcourse[lab]"')
    %pip install --no-deps "{requirement}"
""".rstrip()


def requirement(address, number, sha256=None):
    """What pip installs: the wheel of this version's release, or by name from the index while there is no address.

    Args: sha256: of the wheel, in hex. It cannot stand in the notebooks that are part of that wheel; the ones
        published beside it have it (`make colab`).
    """
    if address is None:
        return f"normcourse=={number}"
    wheel = f"{address}/releases/download/v{number}/normcourse-{number}-py3-none-any.whl"
    return f"normcourse @ {wheel}" + (f"#sha256={sha256}" if sha256 else "")


def first_cell(sha256=None):
    """The generated first cell of every notebook and exercise."""
    source = FIRST_CELL.format(requirement=requirement(repository(), version(), sha256))
    cell = nbformat.v4.new_code_cell(source)
    cell.id = "install"
    return cell


def stamp(notebook, cell=None):
    """Put the first cell into a notebook, or a new one in the place of the old; execution counts go on from it."""
    old = notebook.cells[0].get("id") == "install"
    executed = any(cell.get("execution_count") for cell in notebook.cells)
    if not old:
        for other in notebook.cells:
            if other.cell_type == "code" and other.execution_count:
                other.execution_count += 1
                for output in other.outputs:
                    if "execution_count" in output:
                        output.execution_count += 1
    first = cell or first_cell()
    first.execution_count = 1 if executed else None
    notebook.cells[: 1 if old else 0] = [first]
    return notebook


def main():
    for path in sorted(file for pattern in STORED for file in ROOT.glob(pattern)):
        before = path.read_text(encoding="utf-8")
        notebook = stamp(nbformat.reads(before, as_version=4))
        if (text := nbformat.writes(notebook) + "\n") != before:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
