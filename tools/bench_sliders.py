"""`make bench-sliders`: milliseconds from key press to changed pixels, beside what the kernel takes in the same run.

For each explorer of each notebook, in JupyterLab in headless Chromium:
    step      one arrow key on the first slider, to a position sent ahead, a fifth of a second after the last picture
    jump      a click far away on the slider's track, to a position sent ahead or not
    label     one arrow key on a bare slider whose number the kernel writes into a label, after each explorer
    interact  the same experiment and drawing under `ipywidgets.interact`, a new figure and `plt.show()` each time;
              a fourth as often
A time is taken in the browser: from the key or mouse event to the first frame shown with the new picture in it.
    sent      megabytes that lie in the browser at the end
    cell      running a one-line cell of the learner's own, at rest and while the explorer draws ahead
"""

import argparse
import datetime
import importlib.metadata
import itertools
import platform
import random
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

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
            canvas.begin(ax)
        figure._normcourse_new = None, {}
        explorer.draw(frame, axes[0, 0] if axes.size == 1 else axes.ravel())
        canvas.arrange(figure, list(axes.flat))
        plt.show()

    def again(widget):
        names = [n for n in ("value", "options", "min", "max", "step") if n in widget.trait_names()]
        return type(widget)(**{n: getattr(widget, n) for n in names})

    return ipywidgets.interactive(show, **{name: again(c.widget) for name, c in explorer.controls.items()})

explorers = [value for value in list(Out.values()) if isinstance(value, Explorer)]
print('experiments:', *(e.experiment.__name__ for e in explorers))
"""

LABEL = """
slider, label = ipywidgets.IntSlider(50), ipywidgets.Label('50')
slider.observe(lambda change: setattr(label, 'value', str(change['new'])), names='value')
ipywidgets.VBox([slider, label]).add_class('bench-label')
"""

STATE = """
from normcourse.explore.studio import studio
print('state:', sum(len(soon) + len(later) for soon, later in studio.plans.values()),
      *(e._reel.bytes if e._reel else 0 for e in explorers))
"""

WATCH = """box => {
    window.bench = {from: null, times: []};
    const mark = () => {  // a word that comes with the picture: the browser tells when the frame with both was shown
        if (bench.from === null || bench.marked) return;
        bench.marked = true;
        document.querySelector('.bench-mark')?.remove();
        const word = document.createElement('span');
        word.className = 'bench-mark'; word.textContent = `${bench.times.length}`;
        word.setAttribute('elementtiming', 'bench');
        word.style.cssText = 'position: fixed; left: 20em; top: 3px; z-index: 9999';
        document.body.append(word);
    };
    const look = image => {  // not one that is hidden, or only lets one see another
        if (image.closest('.lm-mod-hidden') || !/^(data:image.png|blob:)/.test(image.getAttribute('src').slice(0, 20))) return;
        if (image.complete && image.naturalWidth) mark(); else image.addEventListener('load', mark, {once: true});
    };
    window.benchPaints?.disconnect();
    window.benchPaints = new PerformanceObserver(list => { for (const entry of list.getEntries())
        if (entry.element?.className === 'bench-mark') {
            bench.times.push(entry.renderTime - bench.from); bench.from = null; } });
    benchPaints.observe({type: 'element'});
    window.benchObserver?.disconnect();
    window.benchObserver = new MutationObserver(changes => { for (const change of changes) {
        if (change.target.matches('.bench-label .widget-label:last-child')) mark();
        if (change.type === 'attributes' && change.target.matches('img')) look(change.target);
        for (const node of change.addedNodes) {
            if (node.matches?.('img')) look(node);
            node.querySelectorAll?.('img').forEach(look);
        }
    }});
    benchObserver.observe(box, {subtree: true, childList: true, attributes: true, attributeFilter: ['src', 'class']});
    for (const event of ['keydown', 'pointerdown', 'mousedown'])
        document.addEventListener(event, () => {
            if (bench.from === null) { bench.from = performance.now(); bench.marked = false; } }, true);
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

    def steps(self, count, pause=200, settle=lambda: None):
        """settle: waits, after the first move, until all that it made worth drawing ahead is drawn and sent."""
        if not self.box.locator(".noUi-handle").count():
            return self.choices(count, pause, settle)
        handle = self.box.locator(".noUi-handle").first
        handle.focus()
        there, back = room(handle)
        low, high = (float(handle.get_attribute(f"aria-value{end}")) for end in ("min", "max"))
        steps = 5 if high - low > 10 else 2  # short sliders have few positions
        keys = [there] * steps + [back] * steps
        for key in (there, back):
            self.act(lambda k=key: self.page.keyboard.press(k), 1500)
        settle()
        handle.focus()
        sequence = itertools.islice(itertools.cycle(keys), count)
        return [self.act(lambda k=key: self.page.keyboard.press(k), pause) for key in sequence]

    def choices(self, count, pause, settle):
        """The same for an explorer that has only choices: to the second value of the first one, and back."""

        def choose(index):
            self.page.evaluate("bench.from = performance.now(), bench.marked = false")
            self.box.locator("select").first.select_option(index=index)

        here = min(1, self.box.locator("select").first.evaluate("select => select.selectedIndex"))
        self.act(lambda: choose(1 - here), 1500)
        settle()
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
    ours = [PLAIN, *(f"plain(explorers[{i}])" for i in range(count)), LABEL, STATE, "1 + 1"]
    notebook.cells += [nbformat.v4.new_code_cell(code) for code in ours]
    nbformat.write(notebook, folder / f"{lesson.name}.ipynb")
    opened = Notebook(page, address, f"{lesson.name}.ipynb")
    opened.run_all()
    if opened.errors():
        raise RuntimeError(f"{lesson.name}: {opened.errors()[0]}")
    listing = page.locator(".jp-OutputArea-output:has-text('experiments:')").last.text_content()
    names = listing.split("experiments:")[1].split()
    settle(opened)
    rows = []
    for i, name in enumerate(names):
        if not opened.explorers().nth(i).locator(".noUi-handle, select").count():
            continue  # a figure without controls
        ours = Timed(page, opened.explorers().nth(i))
        mine, far = ours.steps(steps, settle=lambda: settle(opened)), ours.jumps(jumps)
        page.wait_for_timeout(2000)
        theirs = Timed(page, page.locator(".widget-interact").nth(i))
        its, its_far = theirs.steps(max(4, steps // 4)), theirs.jumps(max(2, jumps // 2))
        label = Timed(page, page.locator(".bench-label")).steps(steps)
        rows.append(Row(f"{lesson.name[:2]} {name}", mine, label, its, far, its_far, state(opened)[1 + i] / 1e6))
        print(rows[-1], flush=True)
    free(opened)
    return rows


class Row(NamedTuple):
    """The times of an explorer, and what lies in the browser."""

    name: str
    step: list
    label: list
    interact: list
    jump: list
    interact_jump: list
    sent: float

    def ratios(self):
        """Of the medians of step to label, step to interact, the p95 of step to the median label, jump to interact."""
        step, label, interact = map(median, (self.step, self.label, self.interact))
        jump = median(self.jump) / median(self.interact_jump) if self.jump else 0
        return step / label, step / interact, p95(self.step) / label, jump

    def __str__(self):
        times = f"step {both(self.step)}   label {both(self.label)}   interact {both(self.interact)}"
        if self.jump:
            times += f"   jump {median(self.jump):4.0f}   interact {median(self.interact_jump):4.0f}"
        return (
            f"{self.name:24} {times}   ratios {' '.join(f'{r:.2f}' for r in self.ratios())}   sent {self.sent:.1f} MB"
        )


def both(times):
    return f"{median(times):4.0f} /{p95(times):4.0f}"


def state(opened):
    """How many pictures are planned, and the bytes sent of each explorer."""
    opened.run(-2)
    opened.page.wait_for_timeout(500)
    return [*map(int, opened.output(-2).split("state:")[1].split())]


def settle(opened):
    """Wait until all is drawn ahead that is planned."""
    for _ in range(60):
        if state(opened)[0] == 0:
            break
        opened.page.wait_for_timeout(2000)


def free(opened):
    """How long a learner's own cell takes, at rest and while an explorer draws ahead."""
    rest = [opened.run(-1) for _ in range(10)]
    busy = []
    for _ in range(10):
        handle = opened.explorers().first.locator(".noUi-handle").last  # another one each time: everything is new
        (handle if len(busy) % 2 else opened.explorers().first.locator(".noUi-handle").first).evaluate(
            "handle => handle.focus({preventScroll: true})"
        )
        opened.page.keyboard.press("PageDown" if len(busy) % 4 < 2 else "PageUp")
        opened.page.wait_for_timeout(120)
        busy.append(opened.run(-1))
    ratio = f"ratio {median(busy) / median(rest):.2f}"
    print(f"   a cell of one's own: {median(rest):.0f} ms at rest, {median(busy):.0f} ms while drawing ahead, {ratio}")


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
    print("median / p95 in ms from key press to changed pixels; ratios with their goals:")
    print("step to label <= 0.5, step to interact <= 0.15, p95 of step to label <= 1.0, jump to interact <= 0.7\n")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with jupyterlab(folder) as address, chromium() as page:
            rows = [
                r
                for s in lessons(arguments.names)
                for r in bench(page, address, s, folder, arguments.steps, arguments.jumps)
            ]
    worst = " ".join(f"{max(ratios):.2f}" for ratios in zip(*(row.ratios() for row in rows)))
    print(f"\nworst ratios {worst}, most sent {max(row.sent for row in rows):.1f} MB")


if __name__ == "__main__":
    main()
