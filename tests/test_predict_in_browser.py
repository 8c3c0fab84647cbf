"""Predict first in real JupyterLab: a guess is still there after a reload with a new kernel, and a reset clears it."""

import nbformat
import pytest

from normcourse.lab import RECEIPT
from normcourse.progress import FILE
from tools.browser import Notebook, chromium, jupyterlab

pytestmark = pytest.mark.slow

CELLS = (
    'from normcourse.predict import answer, overview, predict\n\npredict("01-first-layer")',
    'answer("01-first-layer", 2e-20)',
    "overview()",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A learner's folder, as `python -m normcourse lab` leaves it, with one notebook."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / RECEIPT).write_text('{"files": {}}')
    (folder / "notebooks").mkdir()
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "notebooks" / "guess.ipynb")
    with jupyterlab(folder) as address:
        yield address, folder


def test_a_guess_outlives_the_page_and_the_kernel_until_the_reset(lab, artefacts):
    address, folder = lab
    with chromium() as page:
        notebook = Notebook(page, address, "notebooks/guess.ipynb")
        notebook.run_all()
        assert not notebook.errors() and not (folder / "notebooks" / FILE).exists()
        choices = page.locator(".widget-radio-box input")
        commit = page.locator("button:has-text('Commit')")
        assert (
            choices.count() == 4
            and commit.is_disabled()
            and page.locator(".widget-radio-box input:checked").count() == 0
        )
        page.locator(".widget-radio-box label:has-text('B.')").click()
        commit.click()
        page.locator("text=Your guess is B.").wait_for()
        page.locator("text=You guessed B (about 0.001).").wait_for()  # the answer below it knows at once
        page.locator("td:has-text('B, measured C')").wait_for()
        notebook.screenshot(artefacts / "predict_first.png")

        page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.shutdown()")
        notebook = Notebook(page, address, "notebooks/guess.ipynb")
        notebook.run_all()
        page.locator("text=Your guess is B.").wait_for()
        assert page.locator(".widget-radio-box input:checked").count() == 1
        assert all(choices.nth(i).is_disabled() for i in range(4))
        page.locator("td:has-text('B, measured C')").wait_for()

        page.locator("button:has-text('Clear everything')").click()
        page.locator("button:has-text('Yes, clear it')").click()
        page.locator("td:has-text('B, measured C')").wait_for(state="detached")
        page.locator("text=Your guess is B.").wait_for(state="detached")
        assert page.locator(".widget-radio-box input:checked").count() == 0 and not choices.first.is_disabled()
