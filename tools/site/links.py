"""What a built site, the README and the notebooks link to, without asking any other host.

Links within the course must lead to something that is there, anchors included. Links out of it go to the addresses of
docs/bibliography.toml, and to those that `make stamp` writes.
"""

import html
import re
import tomllib
from functools import cache
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import nbformat

from .. import ROOT, repository

BIBLIOGRAPHY = ROOT / "docs" / "bibliography.toml"
ADDRESS = re.compile(r"""<(?:a|img)\b[^>]*?\b(?:href|src)=["']([^"']*)["']""")
BARE = re.compile(r"https?://[^\s<>)\"'，。；：）、]+")
MARKDOWN = re.compile(r"\]\((<[^>]*>|[^()\s]+(?:\([^()\s]*\)[^()\s]*)*)\)")
OUTSIDE = ("http://", "https://")
STAMPED = ("https://colab.research.google.com/",)


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.ids = [], set()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[key] for key in ("id", "name") if given.get(key)}
        wanted = {"a": "href", "link": "href", "script": "src", "img": "src", "source": "src", "iframe": "src"}
        if given.get(wanted.get(tag)):
            self.links.append((tag, given[wanted[tag]]))


@cache
def page(path):
    """The (tag, link)s and the ids of an HTML file."""
    found = _Page()
    found.feed(path.read_text(encoding="utf-8"))
    return found.links, found.ids


def papers():
    """{key: entry} of the bibliography."""
    return tomllib.loads(BIBLIOGRAPHY.read_text(encoding="utf-8"))


def allowed(link):
    known = {entry["url"] for entry in papers().values()}
    own = repository()
    return link in known or link.startswith(STAMPED) or bool(own and link.startswith(own))


def of_site(folder):
    """What is wrong with the links of the HTML files under `folder`: sentences."""
    wrong = []
    for path in sorted(p for p in folder.rglob("*.html") if "_static" not in p.parts):
        for tag, link in page(path)[0]:
            if problem := _wrong(path, tag, link):
                wrong.append(f"{path.relative_to(folder)}: {link}: {problem}")
    return wrong


def _wrong(path, tag, link):
    if link.startswith(("mailto:", "data:", "javascript:")):
        return None
    if link.startswith(OUTSIDE):
        if tag not in ("a", "link"):
            return "a request to another host"
        return None if allowed(link) else "not in the bibliography"
    parts = urlsplit(link)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return "not there"
    if parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in page(target)[1]:
        return "no such anchor"
    return None


def of_texts(paths=None):
    """What is wrong with the links of the README, the texts of docs/ and all notebooks, outputs too: sentences."""
    if paths is None:
        books = [path for name in ("notebooks", "exercises", "solutions") for path in ROOT.glob(f"{name}/**/*.ipynb")]
        texts = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), *books]
        paths = sorted(path for path in texts if ".ipynb_checkpoints" not in path.parts)
    wrong = []
    for path in paths:
        text, pages = _parts(path)
        links = [html.unescape(link) for page in pages for link in ADDRESS.findall(page)]
        links += MARKDOWN.findall(text) + BARE.findall(MARKDOWN.sub("", text))
        said = dict.fromkeys(f"{link}: {problem}" for link in links if (problem := _wrong_in_text(path, link)))
        name = path.relative_to(ROOT) if ROOT in path.parents else path.name
        wrong += [f"{name}: {words}" for words in said]
    return wrong


def _wrong_in_text(path, link):
    if link.startswith(OUTSIDE):
        return None if allowed(link) else "not in the bibliography"
    if link.startswith(("data:", "attachment:")):
        return None
    place, _, anchor = link.strip("<>").partition("#")
    target = path.parent / unquote(place) if place else path
    if not target.exists():
        return "not there"
    if anchor and target.suffix in (".md", ".ipynb") and unquote(anchor) not in _anchors(target):
        return "no such heading"
    return None


@cache
def _parts(path):
    """The prose of a text or a notebook without its code, and the HTML that a notebook stores."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        pages = [*prose, *(o.data["text/html"] for o in outputs if "text/html" in o.get("data", {}))]
    else:
        prose, pages = [path.read_text(encoding="utf-8")], []  # their HTML is the site's, see `of_site`
    return re.sub(r"```.*?```|`[^`\n]*`", "", "\n\n".join(prose), flags=re.S), pages


def _anchors(path):
    """What the headings of a text are called in an address: on GitHub (small letters) and in JupyterLab."""
    headings = re.findall(r"^#+ +(.*?) *$", _parts(path)[0], re.M)
    github = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return github | {heading.replace(" ", "-") for heading in headings}
