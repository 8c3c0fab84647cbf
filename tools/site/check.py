"""`make test-site`: the built site in headless Chromium with every other host blocked.

Every page: no failed request, no error in the console, its language, its links to the other languages, no serious
finding of axe-core (from npm). Every explorer: all positions of its grid, and how long a step takes. Sizes. Search.
"""

import argparse
import contextlib
import functools
import http.server
import json
import random
import re
import statistics
import threading
import zlib
from base64 import b64decode

from ..browser import chromium
from . import LANGUAGES, SITE, axe, lab, links
from .languages import TAGS

PAGE, PICTURES, WHOLE = 1.5e6, 2e6, 250e6  # bytes: before an explorer is touched, of an explorer and a language, of all
PHONE = 420  # pixels
MEDIAN, SLOWEST = 16, 33  # milliseconds of a step: the median, and what 95 of 100 stay below
QUERIES = {"zh": "残差连接", "en": "residual connection", "both": "层归一化"}
# Every position of an explorer by its own controls: what it shows must be that position's picture, named in words.
STEP = """async root => { const player = root.player, { start, controls } = player.given, steps = [], wrong = [];
  await player.load();
  const { frames, lines, alts } = player.frames, keys = Object.keys(frames), template = document.createElement('template');
  keys.forEach(key => player.node(key));
  function move(to) {  // one control after the other, as a reader does; timed is the last
    player.inputs.forEach(({ input, control }, i) => {
      if (player.position[i] === to[i]) return;
      const begin = performance.now();
      if (control.kind === 'box') input.checked = Boolean(to[i]); else input.value = to[i];
      input.dispatchEvent(new Event('input', { bubbles: true }));
      player.stage.getBoundingClientRect();
      player.took = performance.now() - begin;
    });
  }
  for (const key of keys) {
    const to = key.split(',').filter(Boolean).map(Number), still = key === player.key();
    move(to);
    if (!still) steps.push(player.took);
    template.innerHTML = frames[key].map(i => lines[i]).join('\\n');
    const shown = player.stage.firstElementChild, named = player.stage.getAttribute('aria-label');
    const read = player.inputs.every(({ readout, control }, i) => !readout || readout.textContent === control.values[to[i]]);
    if (root.dataset.position !== key || !player.note.hidden) wrong.push(`does not move to ${key}`);
    else if (shown?.outerHTML !== template.content.firstElementChild.outerHTML) wrong.push(`another picture at ${key}`);
    else if (!named || named !== alts[key]) wrong.push(`no words for ${key}`);
    else if (!read) wrong.push(`another number beside a slider at ${key}`);
  }
  controls.forEach((control, i) => control.values.forEach((value, at) => {  // from the start each control goes everywhere
    if (!keys.includes(start.map((n, j) => j === i ? at : n).join(','))) wrong.push(`${control.name}: ${value} was not drawn`);
  }));
  const sizes = controls.map(control => control.values.length), off = sizes.map(n => n - 1);
  for (const [i, size] of sizes.entries()) if (keys.includes(off.join(',')) && size > 2) off[i] -= 1;
  if (keys.length < sizes.reduce((a, b) => a * b, 1) && !keys.includes(off.join(','))) {
    move(off);
    if (player.note.hidden || !player.note.querySelector('a')) wrong.push(`${off} is off the grid and does not say so`);
  }
  move(start);
  if (player.button) {
    player.button.click();
    const before = player.key();
    await new Promise(done => setTimeout(done, player.given.milliseconds + 150));
    if (player.key() === before) wrong.push('Play does not move it');
    player.go([...start]);
  }
  return { keys: keys.length, steps, wrong } }"""
# Through all positions once more: how much of the processor's time that takes does not depend on what else runs.
THROUGH = """root => { const player = root.player, keys = Object.keys(player.frames.frames);
  for (const key of keys) {
    player.go(key.split(',').filter(Boolean).map(Number));
    player.stage.getBoundingClientRect();
  }
  player.go([...player.given.start]);
  return keys.length }"""
PRESS = """async input => { const took = [];
  for (let i = 0; i < 12; i++) {
    const now = Number(input.value), next = now < Number(input.max) ? now + 1 : 0, start = performance.now();
    input.value = next; input.dispatchEvent(new Event('input', { bubbles: true }));
    await new Promise(done => requestAnimationFrame(() => { const c = new MessageChannel();
      c.port1.onmessage = done; c.port2.postMessage(0) }));
    took.push(performance.now() - start);
  }
  return took }"""


@contextlib.contextmanager
def served(folder):
    """The folder on a port of this machine; gives its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


class Visit:
    """A page in the browser, with what went wrong on it."""

    def __init__(self, page, address):
        self.page, self.address, self.wrong, self.bytes = page, address, [], 0
        page.route("**/*", self._only_here)
        page.on("console", lambda m: m.type in ("error", "warning") and self.wrong.append(f"console: {m.text}"))
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("requestfailed", lambda request: self.wrong.append(f"failed: {request.url}"))
        page.on("response", self._arrived)

    def _only_here(self, route):
        if route.request.url.startswith((self.address, "data:", "blob:")):
            route.continue_()
        else:
            self.wrong.append(f"another host: {route.request.url}")
            route.abort()

    def _arrived(self, response):
        if response.status >= 400:
            self.wrong.append(f"{response.status}: {response.url}")
        if "/frames/" not in response.url:  # these come when an explorer is looked at
            self.bytes += int(response.headers.get("content-length", 0))

    def go(self, path):
        self.wrong, self.bytes = [], 0
        self.page.goto(f"{self.address}/{path}", timeout=120_000)
        self.page.wait_for_timeout(300)


def processor(page):
    """A function that gives the milliseconds of processor time that the page's main thread has had."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    return lambda: next(
        1000 * each["value"]
        for each in session.send("Performance.getMetrics")["metrics"]
        if each["name"] == "TaskDuration"
    )


def languages(page, path):
    """What is wrong with a page's language and its links to the others."""
    code, _, rest = path.partition("/")
    wrong = []
    if page.evaluate("document.documentElement.lang") != TAGS[code]:
        wrong.append(f"lang is {page.evaluate('document.documentElement.lang')!r}")
    found = page.eval_on_selector_all(".nc-languages a", "all => all.map(a => new URL(a.href).pathname)")
    if found != [f"/{other}/{rest}" for other in LANGUAGES]:
        wrong.append(f"language links {found}")
    return wrong + [f"{link} is not there" for link in found if not (SITE / link[1:]).exists()]


def accessible(page, source):
    """What axe finds on a page: as it is, its contrasts in the dark, and once more as wide as a phone."""
    wrong = [("", *each) for each in axe.serious(page, source)]
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    wrong += [(" in the dark", *each) for each in axe.serious(page, source, "{ runOnly: ['color-contrast'] }")]
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    size = page.viewport_size
    page.set_viewport_size({"width": PHONE, "height": 900})
    page.wait_for_timeout(600)  # the theme says what scrolls a third of a second after a change of width
    only_keys = "{ runOnly: ['scrollable-region-focusable'] }"
    wrong += [(f" at {PHONE} px", *each) for each in axe.serious(page, source, only_keys)]
    page.set_viewport_size(size)
    return [f"axe {name}{where}: {len(nodes)} ×, {nodes[0][:160]}" for where, name, nodes, _ in wrong]


def narrow(page):
    """What is wider than a phone on a page, if the page is."""
    size = page.viewport_size
    page.set_viewport_size({"width": PHONE, "height": 900})
    wide = page.evaluate("document.scrollingElement.scrollWidth")
    page.set_viewport_size(size)
    return [f"{wide} px wide on a phone"] if wide > PHONE else []


def sizes():
    """What is over its budget."""
    wrong = []
    for path in SITE.glob("*/_static/frames/*/*.js"):
        if path.stat().st_size > PICTURES:
            wrong.append(f"{path.relative_to(SITE)}: {path.stat().st_size / 1e6:.1f} MB")
    whole = sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file())
    print(f"the whole site: {whole / 1e6:.0f} MB")
    return wrong + ([f"the whole site: {whole / 1e6:.0f} MB"] if whole > WHOLE else [])


def unpacked(path):
    """The pictures of a file, as the player reads them."""
    data = re.fullmatch(r'normcourseFrames\(".*","(.*)"\)\n', path.read_text(encoding="utf-8"))[1]
    return json.loads(zlib.decompress(b64decode(data), -15))


def from_a_folder():
    """What is wrong where the site is opened as files."""
    path = next(
        (p for p in sorted(SITE.glob("zh/notebooks/*.html")) if "nc-player" in p.read_text(encoding="utf-8")), None
    )
    if path is None:
        return ["no page has an explorer"]
    with chromium() as page:
        said = []
        page.on("console", lambda m: m.type == "error" and said.append(f"from a folder: {m.text}"))
        page.on("pageerror", lambda error: said.append(f"from a folder: {error}"))
        page.goto(path.as_uri())
        player = page.locator(".nc-player").first
        player.scroll_into_view_if_needed()
        done = player.evaluate(STEP)
    return said + [f"from a folder: {words}" for words in done["wrong"]]


def first_page(page, visit):
    """What is wrong where a reader comes in: to a language, and to a picture that moves unless motion is unwanted."""
    wrong = []
    visit.go("index.html")
    if not re.search(r"/(zh|en)/index\.html$", page.url):
        wrong.append(f"index.html leads to {page.url}")
    for wish in ("reduce", "no-preference"):
        page.emulate_media(reduced_motion=wish)
        visit.go("en/index.html")
        page.locator(".nc-player[data-autoplay]").scroll_into_view_if_needed()
        page.wait_for_timeout(2500)
        moved = page.evaluate("(p => p.key() !== p.given.start.join())(document.querySelector('.nc-player').player)")
        if moved != (wish == "no-preference"):
            wrong.append(f"the first picture, prefers-reduced-motion: {wish}: {'moves' if moved else 'stands'}")
    page.emulate_media(reduced_motion="reduce")
    return [f"first page: {words}" for words in wrong + visit.wrong]


def pages(names, share):
    """The pages to visit: those whose path has one of the names in it, or a share of all."""
    found = sorted(path.relative_to(SITE).as_posix() for code in LANGUAGES for path in (SITE / code).rglob("*.html"))
    found = [path for path in found if "_static" not in path and (not names or any(name in path for name in names))]
    return found if share >= 1 else random.Random(0).sample(found, max(3, round(share * len(found))))


def main():
    parser = argparse.ArgumentParser(prog="python -m tools.site.check", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="parts of the paths of the pages to visit; all by default")
    parser.add_argument("--share", type=float, default=1.0, help="visit so much of the pages only")
    parser.add_argument("--each", action="store_true", help="say so of each page when it has been seen")
    parser.add_argument("--no-axe", action="store_true", help="where there is no npm")
    parser.add_argument("--no-lab", action="store_true", help="no notebooks in JupyterLab")
    parser.add_argument(
        "--speed", action="store_true", help="fail where steps are slow: for a machine that does nothing else"
    )
    options = parser.parse_args()
    wrong = links.of_site(SITE) + links.of_texts() + sizes()
    source, steps, presses, weights, count = None if options.no_axe else axe.source(), [], [], [], 0
    costs = []  # milliseconds of processor time a step, the mean of each explorer
    if source is None:
        print("no axe-core: accessibility was not tried")
        wrong += [] if options.no_axe else ["no axe-core: it needs npm, or --no-axe"]
    with served(SITE) as address, chromium(1280, 900) as page:
        visit, spent = Visit(page, address), processor(page)
        wrong += first_page(page, visit)
        for path in pages(options.names, options.share):
            visit.go(path)
            said = languages(page, path)
            weights.append((visit.bytes, path))
            said += narrow(page) + (accessible(page, source) if source else [])
            loaded = page.evaluate("document.querySelectorAll('details:not([open]) [data-ready]').length")
            said += [f"{loaded} closed pictures were loaded"] if loaded else []
            page.eval_on_selector_all("details:has(.nc-player)", "all => all.forEach(fold => { fold.open = true })")
            for player in page.locator(".nc-player").all():
                player.scroll_into_view_if_needed()
                done = player.evaluate(STEP)
                steps += done["steps"]
                before = spent()
                positions = player.evaluate(THROUGH)
                if positions > 2:
                    costs.append((spent() - before) / positions)
                count += done["keys"]
                said += [f"{player.get_attribute('data-frames')}: {words}" for words in done["wrong"]]
                for slider in player.locator("input[type=range]").all()[:1]:
                    presses += slider.evaluate(PRESS)
            wrong += [f"{path}: {words}" for words in said + visit.wrong]
            if options.each:
                print(path, *said, *visit.wrong, sep="\n    ", flush=True)
        for code, query in QUERIES.items():
            visit.go(f"{code}/search.html?q={query}")
            page.wait_for_timeout(1500)
            found = page.locator("#search-results li").count()
            print(f"search {query!r}: {found} pages")
            wrong += [f"{code}: nothing found for {query!r}"] * (not found) + [
                f"{code} search: {w}" for w in visit.wrong
            ]
    wrong += from_a_folder()
    if source and not options.no_lab:
        wrong += lab.accessible(source)
    heavy, where = max(weights)
    print(f"{len(weights)} pages; the heaviest, {where}: {heavy / 1e6:.2f} MB")
    wrong += [f"{path}: {size / 1e6:.2f} MB" for size, path in weights if size > PAGE]
    if steps:
        for name, took in (
            ("a step, laid out", steps),
            ("from the input to the end of the frame it is painted in", presses),
        ):
            took = sorted(took)
            print(
                f"{name}: {len(took)} steps, median {statistics.median(took):.1f} ms, p95 {took[int(0.95 * len(took))]:.1f}"
            )
        if costs:
            costs = sorted(costs)
            middle, high = statistics.median(costs), costs[int(0.95 * len(costs))]
            print(f"processor time a step, {len(costs)} explorers: median {middle:.1f} ms, p95 {high:.1f}")
            wrong += ["a step takes too much of the processor"] if middle > MEDIAN or high > SLOWEST else []
        if options.speed and (statistics.median(steps) > MEDIAN or sorted(steps)[int(0.95 * len(steps))] > SLOWEST):
            wrong.append("steps are too slow")
        print(f"{count} positions seen")
    print("\n".join(dict.fromkeys(wrong)) or "nothing wrong")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
