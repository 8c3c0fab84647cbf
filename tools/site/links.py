"""What a built site, the README and the notebooks link to, without asking any other host.

Links within the course must lead to something that is there, anchors included. Links out of it go to the addresses of
docs/bibliography.toml, and to those that `make stamp` writes.
"""

import re
import tomllib
from functools import cache
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import nbformat

from .. import ROOT, repository

BIBLIOGRAPHY = ROOT / "docs" / "bibliography.toml"
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
    """What is wrong with the links of the README, the texts of docs/ and the prose of all notebooks: sentences."""
    if paths is None:
        texts = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
        paths = [*texts, *sorted(ROOT.glob("notebooks/*.ipynb")), *sorted(ROOT.glob("exercises/*/*.ipynb"))]
    wrong = []
    for path in paths:
        for link in MARKDOWN.findall(_prose(path)):
            if link.startswith(OUTSIDE):
                problem = None if allowed(link) else "not in the bibliography"
            elif link.startswith(("#", "data:", "attachment:")):
                problem = None
            else:
                problem = None if (path.parent / unquote(link.partition("#")[0])).exists() else "not there"
            if problem:
                wrong.append(f"{path.relative_to(ROOT) if ROOT in path.parents else path.name}: {link}: {problem}")
    return wrong


def _prose(path):
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        text = path.read_text(encoding="utf-8")
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
