"""The notebooks in real JupyterLab in headless Chromium. Screenshots go to the artefacts folder."""

import shutil

import nbformat
import pytest

from tools.browser import Notebook, chromium, jupyterlab, pixels, room
from tools.build_exercises import EXERCISES
from tools.build_notebooks import NOTEBOOKS, lessons

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    for notebook in NOTEBOOKS.glob("*.ipynb"):
        shutil.copy(notebook, folder)
    shutil.copytree(EXERCISES, folder / "exercises")
    write_notebook(folder / "error.ipynb", EXPLORER)
    write_notebook(folder / "busy.ipynb", EXPLORER, ARRIVED, "import time; time.sleep(3600)")
    with jupyterlab(folder) as address:
        yield address


def visible(page, lang):
    """How many prose blocks of a language are displayed, of how many."""
    return page.eval_on_selector_all(
        f".jp-RenderedMarkdown [lang={lang}]",
        "blocks => [blocks.filter(b => getComputedStyle(b).display !== 'none').length, blocks.length]",
    )


LESSONS = [  # one in full each time, all of them before a release
    pytest.param(name, source, id=name, marks=[] if name.startswith("01") else pytest.mark.long)
    for name, source in lessons()
]


@pytest.mark.parametrize(("name", "source"), LESSONS)
def test_notebook_in_jupyterlab(name, source, lab, artefacts):
    with chromium() as page:
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        notebook = Notebook(page, lab, f"{name}.ipynb")

        # before anything runs, the stored pictures are there
        expected = source.read_text(encoding="utf-8").count("\nexplore(")
        assert wait_until(page, lambda: page.locator(".jp-RenderedImage img").count() == expected)

        # it runs from top to bottom
        seconds = notebook.run_all()
        assert not notebook.errors(), notebook.errors()
        assert wait_until(page, lambda: notebook.explorers().count() == expected)
        print(f"{name}: {seconds:.0f} s")

        # what has no word of its own says what it is: to a screen reader, and not as a tooltip over each picture
        named = "[...document.querySelectorAll('.nc-explorer img')].filter(i => i.clientHeight > 99 && "
        named += "i.checkVisibility({ visibilityProperty: true }))"
        assert page.evaluate(f"{named}.every(i => i.alt.length > 20 && !i.title)")
        assert page.evaluate(f"{named}.length") >= expected
        handles = "[...document.querySelectorAll('.nc-explorer .noUi-handle')]"
        assert page.evaluate(f"{handles}.every(h => h.ariaLabel)") and page.evaluate(f"{handles}.length")

        # each slider listens to the arrow keys
        for number in range(expected):
            explorer = notebook.explorers().nth(number)
            explorer.scroll_into_view_if_needed()
            handles = explorer.locator(".noUi-handle")
            if handles.count() == 0:
                continue
            before = pixels(explorer)
            handles.first.focus()
            page.keyboard.press(room(handles.first)[0])
            changed = wait_until(page, lambda e=explorer, b=before: pixels(e) != b)
            assert changed, f"explorer {number} does not answer the arrow key"
            notebook.screenshot(artefacts / f"{name}_explorer_{number}.png", of=explorer)

        # the switch hides and shows prose, lays both side by side, and changes the figures' labels
        first = notebook.explorers().first
        pictures = {pixels(first)}
        page.locator(".widget-toggle-button").first.scroll_into_view_if_needed()
        for label, shown in (("中文", "zh"), ("English", "en"), ("并排 Side by side", None)):
            page.locator(f".widget-toggle-button:has-text('{label}')").first.click()
            page.wait_for_timeout(400)
            (zh, zh_all), (en, en_all) = visible(page, "zh"), visible(page, "en")
            assert zh_all == en_all > 0
            assert (zh, en) == (zh_all if shown != "en" else 0, en_all if shown != "zh" else 0)
            wait_until(page, lambda p=frozenset(pictures): pixels(first) not in p, 15000)
            pictures.add(pixels(first))
            notebook.screenshot(artefacts / f"{name}_{shown or 'both'}.png")
        assert len(pictures) == 3, "the figure's words do not follow the language"
        left, right = (
            page.locator(f".jp-RenderedMarkdown:has([lang=zh]):has([lang=en]) [lang={lang}]").first.bounding_box()
            for lang in ("zh", "en")
        )
        assert left["x"] + left["width"] <= right["x"] and abs(left["y"] - right["y"]) < 30, "not side by side"
        assert not problems, problems


def wait_until(page, condition, milliseconds=8000):
    for _ in range(milliseconds // 50):
        if condition():
            return True
        page.wait_for_timeout(50)
    return condition()


EXPLORER = """
import pandas as pd
from normcourse import canvas, explore as module
from normcourse.explore import explore
module.AXIS_SECONDS = 1e6  # all of it, however slow the machine
def experiment(depth=3):
    if depth == 4:
        raise ValueError("depth 4 is not to be had")
    return pd.DataFrame({"y": [depth]})
def draw(frame, ax):
    canvas.setup(ax, ("x", "x"), ("y", "y"), (0, 1), (0, 10))
    canvas.curve(ax, "y", [0, 1], [frame["y"][0]] * 2)
explorer = explore(experiment, draw, depth=(1, 9))
explorer
"""
ARRIVED = """
print("arrived:", len(explorer._reel.sent))
"""


def write_notebook(path, *cells):
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    cells = [nbformat.v4.new_code_cell(code) for code in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


def test_a_position_sent_ahead_is_shown_while_the_kernel_is_busy(lab, artefacts):
    with chromium() as page:
        opened = Notebook(page, lab, "busy.ipynb")
        opened.run(0)
        explorer = opened.explorers().first
        explorer.locator("img").first.wait_for()

        def arrived():
            opened.run(1)
            page.wait_for_timeout(500)
            return "arrived: 8" in opened.output(1)  # all but depth 4

        assert wait_until(page, arrived, 60_000), opened.output(1)
        opened.run(2, wait=False)
        page.wait_for_function("document.querySelector('.jp-Notebook-ExecutionIndicator').dataset.status === 'busy'")
        page.evaluate(
            """() => { window.heights = new Set(); const watch = () => {
                const box = document.querySelector('.nc-explorer'), below = box.querySelector('img');
                heights.add(box.getBoundingClientRect().height + (below.complete ? '' : ' blank'));
                requestAnimationFrame(watch) }; watch() }"""
        )
        explorer.locator(".noUi-handle").first.focus()
        pictures = [pixels(explorer)]
        for key in ["ArrowLeft"] * 2 + ["ArrowRight"] * 2:  # depth 2, 1, 2, 3
            page.keyboard.press(key)
            assert wait_until(page, lambda: pixels(explorer) != pictures[-1]), "no step while the kernel was busy"
            pictures.append(pixels(explorer))
        assert len(set(pictures)) == 3 and pictures[3:] == [pictures[1], pictures[0]]
        ready = "i => i.checkVisibility() && !i.checkVisibility({ visibilityProperty: true })"
        ready = f"[...document.querySelectorAll('.nc-reel img')].map({ready})"
        assert page.evaluate(ready) == [n in (1, 2, 5) for n in range(10)], "the browser has not drawn the next ones"
        assert len(page.evaluate("[...heights]")) == 1, "the page moves, or is blank, between two pictures"
        page.keyboard.press("ArrowRight")  # depth 4, whose picture is not to be had
        sign = page.locator(".nc-reel img[src^='data:image/svg']:visible")
        sign.wait_for(timeout=5000)
        page.wait_for_timeout(1000)
        opened.screenshot(artefacts / "computing.png", of=explorer)
        assert len(page.evaluate("[...heights]")) == 1, "the sign moves the page"
        page.keyboard.press("ArrowLeft")
        sign.wait_for(state="detached", timeout=5000)
        assert page.evaluate("document.querySelector('.jp-Notebook-ExecutionIndicator').dataset.status") == "busy"
        page.set_viewport_size({"width": 500, "height": 800})
        page.wait_for_timeout(500)
        below, above = (explorer.locator("img:visible").nth(i).bounding_box() for i in (0, 1))
        assert below == pytest.approx(above, abs=0.5) and below["width"] < 500
        opened.screenshot(artefacts / "busy.png")


def test_an_error_in_an_experiment_is_readable_in_the_explorer(lab, artefacts):
    with chromium() as page:
        opened = Notebook(page, lab, "error.ipynb")
        opened.run_all()
        explorer = opened.explorers().first
        explorer.locator(".noUi-handle").first.focus()
        page.keyboard.press("ArrowRight")
        message = explorer.locator("code:has-text('depth 4 is not to be had')")
        message.wait_for(timeout=5000)
        opened.screenshot(artefacts / "error_in_an_explorer.png", of=explorer)
        before = pixels(explorer)
        page.keyboard.press("ArrowRight")
        assert wait_until(page, lambda: pixels(explorer) != before)
        message.wait_for(state="detached", timeout=5000)


WRONG = """# EXERCISE: layer_norm
def layer_norm(x, weight=None, bias=None, eps=1e-5):
    h = x.float() if x.dtype == torch.float16 else x
    y = (h - h.mean(-1, keepdim=True)) / (h.var(-1, keepdim=True) + eps).sqrt()
    y = y if weight is None else y * weight
    y = y if bias is None else y + bias
    return y.to(x.dtype)"""
MENDED = WRONG.replace("keepdim=True) + eps", "keepdim=True, correction=0) + eps")


def test_a_learner_writes_a_wrong_layer_norm_reads_why_and_mends_it(lab, artefacts):
    with chromium() as page:
        opened = Notebook(page, lab, "exercises/03_layer_normalisation/03_layer_normalisation.ipynb")

        def write(code):
            cell = page.locator(".jp-CodeCell:has-text('# EXERCISE: layer_norm')").first
            cell.scroll_into_view_if_needed()
            cell.locator(".cm-content").click()
            page.keyboard.press("Control+a")
            page.keyboard.insert_text(code)
            for _ in range(2):  # this cell and the check below it
                page.keyboard.press("Shift+Enter")
            opened.wait_idle()

        def report(words):
            cell = page.locator(".jp-CodeCell:has-text('check(\"layer_norm\", layer_norm)')").first
            shown = cell.locator(f".jp-OutputArea-output:has-text('{words}')").first
            shown.wait_for(timeout=20_000)
            return cell, shown.inner_text()

        for number in range(2):  # what installs, and the imports
            page.locator(".jp-CodeCell").nth(number).locator(".cm-content").click()
            page.keyboard.press("Shift+Enter")
        page.locator(".widget-toggle-button").first.wait_for(timeout=60_000)
        write(
            "# EXERCISE: layer_norm\ndef layer_norm(x, weight=None, bias=None, eps=1e-5):\n    raise NotImplementedError"
        )
        assert "还没有写" in report("Not written yet.")[1]
        write(WRONG)
        cell, words = report("divided by d − 1")
        opened.screenshot(artefacts / "check_names_the_mistake.png", of=cell)
        assert "方差除以了 d − 1" in words and words.count("✗") >= 5 and "Traceback" not in words
        page.locator(".widget-toggle-button:has-text('English')").first.click()
        write(MENDED)
        cell, words = report("All 10 cases pass.")
        opened.screenshot(artefacts / "check_passes.png", of=cell)
        assert "✗" not in words and "全部通过" not in words
