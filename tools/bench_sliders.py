"""`make bench-sliders`: milliseconds from key press to changed pixels, beside plain `interact` in the same run.

For each explorer of each notebook, in JupyterLab in headless Chromium:
    step      one arrow key on the first slider, a fifth of a second after the last picture
    jump      a click far away on the slider's track, to a position not drawn ahead
    interact  the same experiment and drawing under `ipywidgets.interact`, a new figure and `plt.show()` each time
A time is taken in the browser: from the key or mouse event to the first frame painted with the new picture.
    cell      running a one-line cell of the learner's own, at rest and while the explorer draws ahead
"""

import argparse
import datetime
import importlib.metadata
import itertools
import platform
import random
import statistics
import tempfile
from pathlib import Path

import nbformat

from .browser import Notebook, chromium, jupyterlab, room
from .build_notebooks import lessons, read

PLAIN = """
import ipywidgets
import matplotlib.pyplot as plt
from normcourse import canvas
from normcourse.explore import Explorer

def plain(explorer):
    def show(**values):
        frame = explorer.experiment(**values)
        figure, axes = plt.subplots(figsize=explorer.figure.get_size_inches(), squeeze=False, **explorer.subplots)
        for ax in axes.flat:
            canvas._begin(ax)
        explorer.draw(frame, axes[0, 0] if axes.size == 1 else axes.ravel())
        for ax in axes.flat:
            canvas._finish(ax)
        plt.show()

    def again(widget):
        names = [n for n in ("value", "options", "min", "max", "step") if n in widget.trait_names()]
        return type(widget)(**{n: getattr(widget, n) for n in names})

    return ipywidgets.interactive(show, **{name: again(c.widget) for name, c in explorer.controls.items()})

explorers = [value for value in list(Out.values()) if isinstance(value, Explorer)]
print('experiments:', *(e.experiment.__name__ for e in explorers))
"""

WATCH = """scope => {
    window.bench = {from: null, times: []};
    const record = () => { if (bench.from !== null) { bench.times.push(performance.now() - bench.from); bench.from = null; } };
    const painted = () => requestAnimationFrame(() => {  // a message posted in a frame arrives when it has been painted
        const channel = new MessageChannel(); channel.port1.onmessage = record; channel.port2.postMessage(0); });
    const watch = image => image.decode().then(painted, () => {});
    window.benchObserver?.disconnect();
    window.benchObserver = new MutationObserver(changes => { for (const change of changes) {
        if (change.type === 'attributes') watch(change.target);
        for (const node of change.addedNodes) node.querySelectorAll?.('img').forEach(watch);
    }});
    benchObserver.observe(scope, {subtree: true, childList: true, attributes: true, attributeFilter: ['src']});
    for (const event of ['keydown', 'pointerdown', 'mousedown'])
        document.addEventListener(event, () => { bench.from ??= performance.now(); }, true);
}"""


class Timed:
    """A widget box with a slider and a picture, timed in the browser."""

    def __init__(self, page, box):
        self.page, self.box = page, box
        box.scroll_into_view_if_needed()
        page.wait_for_timeout(500)
        box.evaluate(WATCH)

    def act(self, action, pause):
        """Milliseconds from the action to the new pixels."""
        count = self.page.evaluate("bench.from = null, bench.times.length")
        action()
        self.page.wait_for_function("count => bench.times.length > count", arg=count, timeout=20_000)
        time = self.page.evaluate("bench.times.at(-1)")
        self.page.wait_for_timeout(pause)
        return time

    def steps(self, count, pause=200):
        if not self.box.locator(".noUi-handle").count():
            return self.choices(count, pause)
        handle = self.box.locator(".noUi-handle").first
        handle.focus()
        there, back = room(handle)
        low, high = (float(handle.get_attribute(f"aria-value{end}")) for end in ("min", "max"))
        steps = 5 if high - low > 10 else 2  # short sliders have few positions
        keys = [there] * steps + [back] * steps
        for key in (there, back):
            self.act(lambda k=key: self.page.keyboard.press(k), 1500)
        sequence = itertools.islice(itertools.cycle(keys), count)
        return [self.act(lambda k=key: self.page.keyboard.press(k), pause) for key in sequence]

    def choices(self, count, pause):
        """The same for an explorer that has only choices: to the second value of the first one, and back."""

        def choose(index):
            self.page.evaluate("bench.from = performance.now()")
            self.box.locator("select").first.select_option(index=index)

        here = min(1, self.box.locator("select").first.evaluate("select => select.selectedIndex"))
        self.act(lambda: choose(1 - here), 1500)
        return [self.act(lambda i=i: choose((here + i) % 2), pause) for i in range(count)]

    def jumps(self, count):
        if not self.box.locator(".noUi-base").count():
            return []
        track = self.box.locator(".noUi-base").first.bounding_box()
        draw = random.Random(0)
        far_left = room(self.box.locator(".noUi-handle").first)[0] == "ArrowLeft"  # to the other half, then back
        spots = [draw.uniform(0.02, 0.3) if i % 2 != far_left else draw.uniform(0.7, 0.98) for i in range(count)]
        times = []
        for spot in spots:
            x, y = track["x"] + spot * track["width"], track["y"] + track["height"] / 2
            times.append(self.act(lambda x=x, y=y: self.page.mouse.click(x, y), 1500))
        return times


def bench(page, address, lesson, folder, steps, jumps):
    notebook = read(lesson.source)
    count = sum(cell.cell_type == "code" and "explore(" in cell.source.split("\n\n")[-1] for cell in notebook.cells)
    notebook.cells.append(nbformat.v4.new_code_cell(PLAIN))
    notebook.cells += [nbformat.v4.new_code_cell(f"plain(explorers[{i}])") for i in range(count)]
    notebook.cells.append(nbformat.v4.new_code_cell("1 + 1"))
    nbformat.write(notebook, folder / f"{lesson.name}.ipynb")
    opened = Notebook(page, address, f"{lesson.name}.ipynb")
    opened.run_all()
    if opened.errors():
        raise RuntimeError(f"{lesson.name}: {opened.errors()[0]}")
    listing = page.locator(".jp-OutputArea-output:has-text('experiments:')").last.text_content()
    names = listing.split("experiments:")[1].split()
    page.wait_for_timeout(8000)  # everything drawn ahead
    rows = []
    for i, name in enumerate(names):
        if not opened.explorers().nth(i).locator(".noUi-handle, select").count():
            continue  # a figure without controls
        ours = Timed(page, opened.explorers().nth(i))
        mine, far = ours.steps(steps), ours.jumps(jumps)
        page.wait_for_timeout(2000)
        theirs = Timed(page, page.locator(".widget-interact").nth(i))
        its, its_far = theirs.steps(steps), theirs.jumps(jumps)
        rows.append((f"{lesson.name[:2]} {name}", mine, its, far, its_far))
        median = statistics.median
        line = f"{rows[-1][0]:24} step {median(mine):4.0f} /{p95(mine):4.0f}   interact {median(its):4.0f} /{p95(its):4.0f}"
        line += f"   ratio {median(mine) / median(its):.2f}"
        if far:
            line += f"   jump {median(far):4.0f}   interact {median(its_far):4.0f}   ratio {median(far) / median(its_far):.2f}"
        print(line, flush=True)
    free(page, opened)
    return rows


def free(page, opened):
    """How long a learner's own cell takes, at rest and while an explorer draws ahead."""
    run = """async () => { const notebook = jupyterapp.shell.currentWidget.content;
        notebook.activeCellIndex = notebook.widgets.length - 1; notebook.deselectAll();
        const start = performance.now();
        await jupyterapp.commands.execute('notebook:run-cell'); return performance.now() - start }"""
    rest = [page.evaluate(run) for _ in range(10)]
    busy = []
    for _ in range(10):
        opened.explorers().first.locator(".noUi-handle").first.evaluate("handle => handle.focus({preventScroll: true})")
        page.keyboard.press("PageDown" if len(busy) % 2 else "PageUp")
        page.wait_for_timeout(120)
        busy.append(page.evaluate(run))
    print(
        f"   a cell of one's own: {statistics.median(rest):.0f} ms at rest, {statistics.median(busy):.0f} ms while drawing ahead"
    )


def p95(times):
    return sorted(times)[min(len(times) - 1, round(0.95 * len(times)))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="notebooks, e.g. 01; all by default")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--jumps", type=int, default=10)
    arguments = parser.parse_args()
    versions = {
        name: importlib.metadata.version(name)
        for name in ("torch", "matplotlib", "ipywidgets", "jupyterlab", "ipykernel")
    }
    print(f"{datetime.date.today()}, {platform.machine()}, Python {platform.python_version()}, {versions}")
    print(
        "median / p95 in ms from key press to changed pixels; goals: step <= 0.35 x interact and p95 <= 80, jump <= 0.7 x\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with jupyterlab(folder) as address, chromium() as page:
            rows = [
                r
                for s in lessons(arguments.names)
                for r in bench(page, address, s, folder, arguments.steps, arguments.jumps)
            ]
    worst = max(statistics.median(mine) / statistics.median(its) for _, mine, its, _, _ in rows)
    slow = max(p95(mine) for _, mine, _, _, _ in rows)
    far = max(statistics.median(jump) / statistics.median(its) for _, _, _, jump, its in rows if jump)
    print(f"\nworst step ratio {worst:.2f}, worst p95 {slow:.0f} ms, worst jump ratio {far:.2f}")


if __name__ == "__main__":
    main()
