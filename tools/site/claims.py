"""The claims of the course as one page that filters: the cards as the committed notebooks have measured them."""

import hashlib
import html
import json
import re
import shutil

import nbformat

from normcourse import canvas, i18n
from normcourse.chapters import chapters
from normcourse.claims import VERDICTS, claims, hear, verdict
from normcourse.claims.pictures import picture

from .. import ROOT
from . import LANGUAGES, frames, player
from .languages import TAGS, output, pick

CALL = re.compile(r'^card\("(\w+)"\)', re.M)
FIRST = {"Holds.": "holds", "False.": "false", "Not settled by this run.": "not_settled"}
FIRST |= {"Not a measurable claim.": "not_measurable"}
WORDS = {
    "chapter": ("章", "chapter"),
    "verdict": ("判决", "verdict"),
    "all": ("全部", "all"),
    "words": ("其中的字", "words in it"),
    "count": ("条", "claims"),
    "picture": ("画出来（建这一页时又量了一遍）", "As a picture (measured again when this page was built)"),
}


def cards():
    """{id: (chapter, HTML of the stored card)} of all notebooks, in the order of the chapters."""
    found = {}
    for chapter in chapters():
        path = ROOT / "notebooks" / f"{chapter.name}.ipynb"
        if not path.exists():
            continue
        for cell in nbformat.read(path, as_version=4).cells:
            called = CALL.search(cell.source) if cell.cell_type == "code" else None
            pages = [o.data["text/html"] for o in cell.get("outputs", []) if "text/html" in o.get("data", {})]
            if called and pages and called[1] not in found:
                found[called[1]] = chapter, "".join(pages)
    return found


def kind(card):
    """The kind of verdict, a key of `VERDICTS`, that a stored card ends with."""
    words = html.unescape(re.sub("<[^>]+>", "", re.search(r"<p>Verdict: <strong>(.*?)</strong>", card)[1]))
    return FIRST.get(words, "false" if words.startswith("False") else "holds_only")


def draw():
    """Measure the claims and draw each as the notebook does when one is opened, unless nothing has changed since. Where
    the verdict is another than the stored card's, as of a time on another machine, there is no picture. Returns a line
    that says what was done."""
    folder, hashed = frames.FOLDER / "claims", hashlib.sha256()
    package = [path for path in (ROOT / "normcourse").rglob("*") if path.suffix in (".py", ".toml", ".csv")]
    for path in sorted([*package, *(ROOT / "tools" / "site" / name for name in ("claims.py", "frames.py"))]):
        hashed.update(path.read_bytes())
    state, known = hashed.hexdigest(), folder / "explorers.json"
    if known.exists() and json.loads(known.read_text(encoding="utf-8"))["digest"] == state:
        return "claims: as before"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    stored, drawn, others = {name: kind(card) for name, (_, card) in cards().items()}, [], []
    for claim, measured in hear():
        if not claim.settings or claim.id not in stored:
            continue
        if verdict(claim, measured).kind != stored[claim.id]:
            others.append(claim.id)
            continue
        entry = {"name": f"claims-{claim.id}", "start": [], "play": None, "pictures": 1, "controls": [], "alt": {}}
        characters = set()
        for code in LANGUAGES:
            i18n.set_language(code)
            figure = picture(claim, measured)
            lines, entry["alt"][code] = frames.svg(figure, entry["name"]), canvas.alt_text(figure)
            characters |= {*"".join(lines)}
            text = frames.packed(entry["name"], {(): lines}, {(): entry["alt"][code]})
            (folder / f"{claim.id}-{code}.js").write_text(text, encoding="utf-8")
        drawn.append(entry | {"first": dict.fromkeys(LANGUAGES, ""), "characters": "".join(sorted(characters))})
    i18n.set_language("both")
    known.write_text(json.dumps({"digest": state, "explorers": drawn}, ensure_ascii=False), encoding="utf-8")
    said = f"claims: {len(drawn)} pictures"
    return said + (f"; another verdict than the stored card's: {', '.join(others)}" if others else "")


def _picture(name, code, drawn, chapter):
    """The picture of a claim under its card, which is loaded when it is opened; nothing where none was drawn."""
    if name not in drawn:
        return ""
    live = f"../notebooks/{chapter.name}.ipynb"
    found = player.markup(drawn[name], code, f"_static/frames/claims/{name}-{code}.js", live)
    return f'<details class="nc-drawn"><summary>{pick(code, *WORDS["picture"])}</summary>{found}</details>'


def page(code):
    """The court: every claim with its card, and what it can be filtered by, as HTML."""
    found = cards()
    if missing := claims().keys() - found.keys():
        print(f"claims without a card in any notebook: {', '.join(sorted(missing))}")
    word = {name: pick(code, *words) for name, words in WORDS.items()}
    numbers = {chapter.number: chapter for chapter, _ in found.values()}
    options = "".join(f'<option value="{n}">{n:02d} {_title(c, code)}</option>' for n, c in sorted(numbers.items()))
    verdicts = "".join(f'<option value="{name}">{pick(code, *words)}</option>' for name, words in VERDICTS.items())
    every = f'<option value="">{word["all"]}</option>'
    rows, drawn = [], {entry["name"].removeprefix("claims-"): entry for entry in frames.known("claims")}
    for name, (chapter, card) in found.items():
        link = f'<a href="notebooks/{chapter.name}.html">{chapter.number:02d} {_title(chapter, code)}</a>'
        rows.append(
            f'<section class="nc-claim" id="{name}" data-verdict="{kind(card)}" data-chapter="{chapter.number}">'
            f"{output(card, code)}{_picture(name, code, drawn, chapter)}<p>{link}</p></section>"
        )
    return (
        f'<form class="nc-filter" lang="{TAGS[code]}"><label>{word["verdict"]} <select name="verdict">{every}{verdicts}'
        f'</select></label> <label>{word["chapter"]} <select name="chapter">{every}{options}</select></label> '
        f'<label>{word["words"]} <input type="search" name="words"></label> '
        f'<output aria-live="polite" data-unit="{word["count"]}">{len(rows)} {word["count"]}</output></form>'
        + "".join(rows)
    )


def _title(chapter, code):
    return chapter.title["en" if code == "en" else "zh"]


def tally(code):
    """How many claims got which verdict, as a row of HTML links to the court."""
    kinds = [kind(card) for _, card in cards().values()]
    items = "".join(
        f'<li><a href="claims.html?verdict={name}"><strong>{kinds.count(name)}</strong> {pick(code, *words)}</a></li>'
        for name, words in VERDICTS.items()
        if name in kinds
    )
    return f'<ul class="nc-tally">{items}</ul>'
