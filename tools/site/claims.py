"""The claims of the course as one page that filters: the cards as the committed notebooks have measured them."""

import html
import re

import nbformat

from normcourse.chapters import chapters
from normcourse.claims import VERDICTS, claims

from .. import ROOT
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
    rows = []
    for name, (chapter, card) in found.items():
        link = f'<a href="notebooks/{chapter.name}.html">{chapter.number:02d} {_title(chapter, code)}</a>'
        rows.append(
            f'<section class="nc-claim" id="{name}" data-verdict="{kind(card)}" data-chapter="{chapter.number}">'
            f"{output(card, code)}<p>{link}</p></section>"
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
