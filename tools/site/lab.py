"""Two notebooks in JupyterLab: axe-core's findings in what is the course's, its prose, its outputs and its explorers."""

import shutil
import tempfile
from collections import Counter
from pathlib import Path

from .. import ROOT
from ..browser import Notebook, chromium, jupyterlab
from . import axe

NOTEBOOKS = ("03_layer_normalisation", "05_rms_norm")
OURS = ".jp-RenderedHTMLCommon, .jp-OutputArea-output, .jp-OutputArea-child"  # the rest is JupyterLab's
WHOSE = """targets => targets.map(target => {
  const found = document.querySelector([target[0]].flat()[0]);
  return Boolean(found?.closest(%r)); })"""


def accessible(source, names=NOTEBOOKS, seconds=900):
    """What axe finds that is serious or critical in the notebooks, run from top to bottom.

    Args: source: of axe-core. seconds: that one notebook may take.
    Returns: sentences on what is ours; what is JupyterLab's own is printed.
    """
    wrong = []
    with tempfile.TemporaryDirectory() as folder, chromium() as page:
        for name in names:
            shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", folder)
        with jupyterlab(Path(folder)) as address:
            for name in names:
                notebook = Notebook(page, address, f"{name}.ipynb")
                page.evaluate(
                    """async () => { const notebook = jupyterapp.shell.currentWidget.content;
                    notebook.notebookConfig = { ...notebook.notebookConfig, windowingMode: 'none' }; }"""
                )  # JupyterLab else takes away what is out of view, and axe could not see it
                notebook.run_all(seconds)
                errors, explorers = notebook.errors(), notebook.explorers().count()
                wrong += [f"{name} in JupyterLab: {words[:200]}" for words in errors]
                wrong += [] if explorers else [f"{name} in JupyterLab: no explorer"]
                ours, theirs = 0, Counter()
                for rule, nodes, targets in axe.serious(page, source):
                    for mine, node in zip(page.evaluate(WHOSE % OURS, targets), nodes):
                        ours += mine
                        theirs[rule] += not mine
                        wrong += [f"{name} in JupyterLab: axe {rule}: {node[:200]}"] if mine else []
                print(
                    f"{name} in JupyterLab: {explorers} explorers; serious: {ours} ours, {theirs} of JupyterLab itself"
                )
    return wrong
