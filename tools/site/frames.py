"""The pictures of an explorer at the positions of its grid, as SVG: small, sharp at any size, its words as text, its
colours those of the page, light or dark.

Pictures of one explorer have most of their lines in common, so a file holds each line once, and each picture as the
numbers of its lines: a `.js` file, which a page can load from a folder, too, where `fetch` is not allowed.
"""

import base64
import concurrent.futures
import hashlib
import io
import json
import re
import shutil
import time
import warnings
import zlib

import matplotlib
import torch
from matplotlib.colors import to_hex
from matplotlib.text import Text

from normcourse import canvas, i18n

from .. import ROOT
from ..build_notebooks import lessons
from . import LANGUAGES, WORK
from .explorers import explorers
from .grid import grid

FOLDER = WORK / "frames"
PICTURES, PICTURES_FULL = 60, 400  # of one explorer at most
PREPARING, DRAWING = 30, 16  # seconds of processor time that one explorer may take, but for FULL=1
DARK = dict(zip(canvas.TONES["light"].values(), canvas.TONES["dark"].values()))
BYTES = 2e6  # of a file of pictures, were no line in two of them
SOURCES = ("explorers.py", "grid.py", "frames.py")


# --- one picture --------------------------------------------------------------------------------------------------


def svg(figure, salt):
    """The figure as SVG with its text as text, in colours that follow the page."""
    for words in figure.findobj(Text):
        haloed, ground = words.get_path_effects(), _ground(words)
        words.set_path_effects([])  # matplotlib would draw the words as shapes
        words.set_gid("nc-fixed" if ground and ground not in DARK else "nc-halo" if haloed else None)
    settings = {"svg.fonttype": "none", "svg.hashsalt": salt}
    with io.StringIO() as file, canvas.styled(), matplotlib.rc_context(settings):
        figure.savefig(file, format="svg", metadata={"Date": None})
        return clean(file.getvalue())


def _ground(words):
    """The colour that words stand on where it is not that of the axes."""
    box = words.get_bbox_patch()
    ground = getattr(words, "_normcourse_ground", None) or (box.get_facecolor() if box else None)
    return to_hex(ground) if ground is not None else None


def clean(text):
    """matplotlib's SVG without what a page has no use for, an element a line."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.S)
    text = re.sub(r"base64,[^\"]*", lambda m: "".join(m[0].split()), text)
    text = re.sub(r'<g id="nc-(\w+)">', r'<g class="nc-\1">', text)
    text = re.sub(r'<g id="[^"]*"', "<g", text).replace("xlink:href", "href")
    text = re.sub(r"<text.*?</text>", lambda m: _text(m[0]), text, flags=re.S)
    text = re.sub(r"<(?!text|tspan|image|svg)[^>]+>", lambda m: _colours(_rounded(m[0]), False), text)
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups()
    pixels = f"{float(width) / 0.72:.0f}"
    root = f'<svg viewBox="0 0 {width} {height}" style="max-width:{pixels}px" aria-hidden="true" focusable="false">'
    text = re.sub(r"<svg[^>]*>", root, text, count=1)
    lines = [line.strip() for line in text.split("\n")]
    return merged([line for line in lines if line and line != "<g/>"])


DEFINED = re.compile(r'<path id="(\w+)" d="([^"]*)"(?: style="([^"]*)")?/>')
USED = re.compile(r'<use href="#(\w+)"(?: x="([-\d.]+)")?(?: y="([-\d.]+)")?(?: style="([^"]*)")?/>')


CIRCLE = re.compile(r"M 0 (-?[\d.]+) (?:C(?: -?[\d.e-]+){6} ){8}z")


def merged(lines):
    """Markers that look alike and stand one after the other as one path: browsers are slow with many `<use>`."""
    shapes = {m[1]: (m[2], m[3] or "") for m in map(DEFINED.fullmatch, lines) if m}
    found, look, places = [], None, []
    for line in [*lines, ""]:
        used = USED.fullmatch(line)
        now = (used[1], used[4]) if used and used[1] in shapes else None
        if now != look and look is not None:
            shape, own = shapes[look[0]]
            style = "; ".join(part for part in (look[1] or "", own) if part)
            found.append(f'<path d="{" ".join(_moved(shape, *place) for place in places)}" style="{style}"/>')
            places = []
        look = now
        if now is not None:
            places.append((float(used[2] or 0), float(used[3] or 0)))
        elif not DEFINED.fullmatch(line):
            found.append(line)
    text = "\n".join(found[:-1])
    return re.sub(r"<defs>\n</defs>\n|<g>\n</g>\n", "", text).split("\n")


def _moved(shape, x, y):
    """A path's commands, all of absolute points, about another origin; matplotlib's circle as two arcs."""
    if circle := CIRCLE.match(shape):
        r = abs(float(circle[1]))
        return f"M {x - r:.1f} {y:.1f} a {r:g} {r:g} 0 1 0 {2 * r:g} 0 a {r:g} {r:g} 0 1 0 {-2 * r:g} 0 z"
    numbers = iter((x, y) * shape.count(" "))
    return re.sub(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", lambda m: f"{float(m[0]) + next(numbers):.1f}", shape)


def _rounded(tag):
    def number(found):
        value = float(found[0])
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"

    tag = re.sub(r'(?<= d=")[^"]*', lambda m: re.sub(r"-?\d+\.\d+(?:e-?\d+)?", number, " ".join(m[0].split())), tag)
    return re.sub(r'(?<= (?:x|y)=")-?\d+\.\d+', number, tag)


def _text(tag):
    tag = re.sub(r'\s*transform="rotate\(-?0 [^"]*"', "", tag)
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
    return re.sub(r"<(?:text|tspan)[^>]*>", lambda m: _colours(_rounded(" ".join(m[0].split())), True), tag)


def _colours(tag, words):
    """`fill: #000000` also as it is on a dark page. Words become legible there; of shapes only tones change."""

    def both(found):
        kind, light = found.groups()
        dark = DARK.get(light) or (canvas.legible(light, canvas.TONES["dark"]["paper"]) if words else light)
        return found[0] if dark == light else f"{kind}: {light}; {kind}: light-dark({light}, {dark})"

    return re.sub(r"(fill|stroke): (#[0-9a-f]{6})", both, tag)


# --- an explorer --------------------------------------------------------------------------------------------------


def packed(name, pictures, alts):
    """The file of an explorer's pictures: `normcourseFrames(name, …)`. pictures: {position: its lines}."""
    lines = {line: None for picture in pictures.values() for line in picture}
    numbers = {line: i for i, line in enumerate(lines)}
    frames = {",".join(map(str, p)): [numbers[line] for line in picture] for p, picture in pictures.items()}
    data = {"lines": [*lines], "frames": frames, "alts": {",".join(map(str, p)): alt for p, alt in alts.items()}}
    squeezed = zlib.compressobj(9, wbits=-15)
    raw = squeezed.compress(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()) + squeezed.flush()
    return f"normcourseFrames({json.dumps(name)},{json.dumps(base64.b64encode(raw).decode())})\n"


def described(control, kept):
    """What the player is told of a control: its kind, and in each language its name and those of its positions."""
    kind = "choice" if control.values is not None and len(control.values) > 0 else "slider"
    if control.values == [False, True] and control.labels is None:
        kind = "box"
    if hasattr(control.widget, "options") and "Slider" in type(control.widget).__name__:
        kind = "slider"
    names, values = {}, {}
    for code in LANGUAGES:
        i18n.set_language(code)
        names[code] = i18n.term(control.name)
        values[code] = [_value(control, i) for i in kept]
    return {"name": control.name, "kind": kind, "label": names, "values": values, "count": control.count}


def _value(control, index):
    if control.labels is not None:
        return i18n.term(control.labels[index])
    form = getattr(control.widget, "readout_format", None)
    if control.values is None and form:
        return format(control.at(index), form if form != "d" else "d").replace("-", "−")
    options = getattr(control.widget, "options", None)
    if options and isinstance(options[0], (tuple, list)):
        return str(options[index][0])
    return f"{control.at(index)}"


def draw(name, asked, full=False, most=PICTURES):
    """Draw an explorer ahead. Returns what the page needs, and {language: file with the pictures}."""
    figure, _ = canvas.new_figure(asked.size, **asked.subplots)
    controls = [*asked.controls.values()]
    start = [c.position() for c in controls]

    def pictures(position):
        frame = asked.experiment(**{c.name: c.at(i) for c, i in zip(controls, position)})
        for code in LANGUAGES:
            i18n.set_language(code)
            canvas.redraw(figure, asked.draw, frame)
            yield code, svg(figure, name), canvas.alt_text(figure)

    begun = time.process_time()
    first = [*pictures(start)]
    seconds = time.process_time() - begun
    limit = PICTURES_FULL if full else max(1, min(most, int(DRAWING / seconds)))
    limit = min(limit, int(BYTES / max(len(packed(name, {(): lines}, {})) for _, lines, _ in first)))
    sliders = [described(c, [])["kind"] == "slider" for c in controls]
    play = [*asked.controls].index(asked.play) if asked.play else None
    kept, positions = grid([c.count for c in controls], start, sliders, limit, play)
    found, alts = {code: {} for code in LANGUAGES}, {code: {} for code in LANGUAGES}
    for number, position in enumerate(positions):
        key = tuple(places.index(i) for places, i in zip(kept, position))
        for code, lines, alt in first if number == 0 else pictures(position):
            found[code][key], alts[code][key] = lines, alt
    key = tuple(places.index(i) for places, i in zip(kept, start))
    page = {
        "name": name,
        "start": key,
        "play": play,
        "pictures": len(positions),
        "controls": [described(c, places) for c, places in zip(controls, kept)],
        "characters": "".join(
            sorted({c for code in LANGUAGES for lines in found[code].values() for c in "".join(lines)})
        ),
        "first": {code: "\n".join(found[code][key]) for code in LANGUAGES},
        "alt": {code: alts[code][key] for code in LANGUAGES},
    }
    return page, {code: packed(name, found[code], alts[code]) for code in LANGUAGES}


# --- the course ---------------------------------------------------------------------------------------------------


def digest(source, full, most):
    """What the pictures of a lesson depend on."""
    own = [ROOT / "tools" / "site" / name for name in SOURCES]
    package = [p for p in sorted((ROOT / "normcourse").rglob("*")) if p.suffix in (".py", ".toml", ".csv")]
    shared = [p for p in package if "chapters" not in p.parts or p.parent.name == "chapters"]
    chapter = [p for p in package if source.parent in p.parents]
    hashed = hashlib.sha256(f"{full} {most}".encode())
    for path in (*own, *shared, *chapter, source):
        hashed.update(path.read_bytes())
    return hashed.hexdigest()


def chapter(name, source, full=False, most=PICTURES):
    """Draw the explorers of a lesson ahead, unless they are as they were. Returns a line that says what was done."""
    folder, begun = FOLDER / name, time.process_time()
    state = digest(source, full, most)
    known = folder / "explorers.json"
    if known.exists() and json.loads(known.read_text(encoding="utf-8"))["digest"] == state:
        return f"{name}: as before"
    new = folder.with_name(f".{name}")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    torch.set_num_threads(1)
    pages = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, asked in enumerate(explorers(source, None if full else PREPARING)):
            try:
                if isinstance(asked, Exception):
                    raise asked
                page, files = draw(f"{name}-{number}", asked, full, most)
            except Exception as error:
                pages.append({"name": f"{name}-{number}", "still": f"{type(error).__name__}: {error}"})
                continue
            for code, text in files.items():
                (new / f"{number}-{code}.js").write_text(text, encoding="utf-8")
            pages.append(page)
    text = json.dumps({"digest": state, "explorers": pages}, ensure_ascii=False)
    (new / known.name).write_text(text, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    still = [page["name"] for page in pages if "still" in page]
    drawn = sum(page.get("pictures", 0) for page in pages)
    said = f"{name}: {len(pages)} explorers, {drawn} positions, {time.process_time() - begun:.0f} s"
    return said + (f"; stored picture only: {', '.join(still)}" if still else "")


def course(names=(), full=False, most=PICTURES, processes=2):
    """Draw ahead the explorers of all lessons, or of those whose names start with one of `names`."""
    with concurrent.futures.ProcessPoolExecutor(processes) as pool:
        for done in [pool.submit(chapter, name, source, full, most) for name, source in lessons(names)]:
            print(done.result(), flush=True)


def known(name):
    """What was drawn ahead of a lesson: a list, an entry an explorer; empty where nothing was."""
    path = FOLDER / name / "explorers.json"
    return json.loads(path.read_text(encoding="utf-8"))["explorers"] if path.exists() else []
