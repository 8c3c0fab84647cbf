"""The pages that Sphinx is given, in one language: chapters, exercises, the texts of docs/, claims, reference."""

import ast
import importlib
import inspect
import itertools
import pkgutil
import re
import shutil

import nbformat

import normcourse
from normcourse.chapters import chapters

from .. import ROOT, repository
from ..stamp import colab_address
from . import claims, frames, links, player
from .explorers import explorer_of
from .languages import output, pick, prose

HERO = "02_residual_connections-1"  # the explorer of the first page
NOT_IN_REFERENCE = {"__main__", "chapters", "headers"}
NO_CONTROL = {"size", "subplots", "play"}  # of what `explore` is given by name
CHAPTER = re.compile(r'(<a href="\d\d_\w+)\.ipynb"')
OPEN = "打开这一页的 notebook", "Open this page's notebook"
COLAB = "在 Colab 里打开", "Open in Colab"
CAPTIONS = {
    "chapters": ("章", "Chapters"),
    "exercises": ("练习", "Exercises"),
    "more": ("教学与参考", "Teaching and reference"),
}
PAPERS = "论文", "Papers"
FOR_READERS = (
    "这门课的函数和类，说明取自源代码。",
    "Functions and classes of the course, from their docstrings.",
)


def write(code, folder):
    """Write all pages in a language into `folder`. What is as it was keeps its time: Sphinx reads it only once."""
    old = {path for path in folder.rglob("*") if path.is_file()}
    lessons = [c.name for c in chapters() if (ROOT / "notebooks" / f"{c.name}.ipynb").exists()]
    exercises = sorted(path.parent.name for path in ROOT.glob("exercises/*/*.ipynb"))
    for name in lessons:
        _notebook(ROOT / "notebooks" / f"{name}.ipynb", code, folder)
    for name in exercises:
        _notebook(ROOT / "exercises" / name / f"{name}.ipynb", code, folder)
        for picture in (ROOT / "exercises" / name).glob("*.png"):
            shutil.copy2(picture, folder / "exercises" / name)
    for name in ("teaching", "grading"):
        _page(folder / f"{name}.md", _doc(name, code))
    court = prose((ROOT / "docs" / "claims.md").read_text(encoding="utf-8"), code)
    _page(folder / "claims.md", f"{court}\n\n{_raw(claims.page(code))}")
    _page(folder / "papers.md", _papers(code))
    modules = _reference(code, folder / "reference")
    contents = {
        "chapters": [f"notebooks/{name}" for name in lessons],
        "exercises": [f"exercises/{name}/{name}" for name in exercises],
        "more": ["claims", "papers", "teaching", "grading", "reference/index"],
    }
    trees = "\n\n".join(
        "\n".join(["```{toctree}", ":hidden:", f":caption: {pick(code, *CAPTIONS[part])}", "", *pages, "```"])
        for part, pages in contents.items()
    )
    _page(folder / "index.md", f"{_home(code)}\n\n{trees}")
    pages = {"index", *itertools.chain(*contents.values()), *(f"reference/{name}" for name in modules)}
    for path in old:
        if path.suffix != ".png" and path.relative_to(folder).with_suffix("").as_posix() not in pages:
            path.unlink()
    return pages


def _page(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text + "\n":
        path.write_text(text + "\n", encoding="utf-8")


def _raw(page):
    return f"```{{raw}} html\n{page}\n```"


def _doc(name, code):
    """A text of docs/: blocks of both languages, or a section for each, `## 中文` and `## English`."""
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    if "\n## English\n" in text and code != "both":
        head, zh, en = re.split(r"\n## (?:中文|English)\n", text)
        section = zh if code == "zh" else en
        text = f"{head}\n" + re.sub(r"^#(?=##+ )", "", section, flags=re.M)  # its own heading is gone
    return prose(text.replace("](../", "]("), code)  # docs/ is one folder down, the page is not


def _home(code):
    """The first page: docs/home.md with an explorer at work, the tally of the claims and the table of chapters."""
    text = prose((ROOT / "docs" / "home.md").read_text(encoding="utf-8"), code)
    name = HERO.rpartition("-")[0]
    page = next((p for p in frames.known(name) if p["name"] == HERO and "first" in p), None)
    hero = ""
    if page:
        hero = player.markup(page, code, _frames(page, code, ""), f"notebooks/{name}.html", " data-autoplay")
    text = text.replace("<!-- explorer -->", _raw(hero) if hero else "")
    text = text.replace("<!-- claims -->", _raw(claims.tally(code)))
    return text.replace("<!-- chapters -->", _table(code))


def _table(code):
    head = pick(code, "章", "chapter"), pick(code, "量什么", "what is measured"), pick(code, "分钟", "minutes")
    rows = [f"| | {' | '.join(head)} |", "| --- | --- | --- | --- |"]
    for chapter in chapters():
        if (ROOT / "notebooks" / f"{chapter.name}.ipynb").exists():
            words = [pick(code, each["zh"], each["en"]) for each in (chapter.title, chapter.measures)]
            link = f"[{words[0]}](notebooks/{chapter.name}.ipynb)"
            rows.append(f"| {chapter.number:02d} | {link} | {words[1]} | {chapter.minutes or ''} |")
    return "\n".join(rows)


def _papers(code):
    """The bibliography as a list, by year."""
    rows = [f"# {pick(code, *PAPERS)}", ""]
    for entry in sorted(links.papers().values(), key=lambda entry: (entry["year"], entry["title"])):
        numbers = ", ".join(f"{n:02d}" for n in entry["chapters"])
        said = pick(code, f"第 {numbers} 章", f"chapter{'s' * (len(entry['chapters']) > 1)} {numbers}")
        rows.append(f"- {entry['authors']} ({entry['year']}): [{entry['title']}]({entry['url']}). {said}")
    return "\n".join(rows)


# --- notebooks ----------------------------------------------------------------------------------------------------


def _frames(page, code, up):
    chapter, _, number = page["name"].rpartition("-")
    return f"{up}_static/frames/{chapter}/{number}-{code}.js"


def _notebook(path, code, folder):
    where = path.relative_to(ROOT)
    up = "../" * (len(where.parts) - 1)
    notebook = in_language(path, code, lambda page: _frames(page, code, up), f"{up}../{where.as_posix()}")
    _page(folder / where, nbformat.writes(notebook))


def in_language(path, code, frames_at, live):
    """A notebook in one language for a page: no cell that installs or switches, players in the explorers' places.

    Args: frames_at: from an entry of `frames.known` to the address of its pictures. live: address of the notebook.
    """
    notebook, drawn = nbformat.read(path, as_version=4), iter(frames.known(path.stem))
    notebook.cells = [cell for cell in notebook.cells[1:] if not cell.source.startswith("finished(")]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = prose(cell.source, code)
            continue
        if cell.cell_type != "code":
            continue
        if "language_switch()" in cell.source:
            cell.outputs, cell.metadata["tags"] = [], ["hide-input"]
        call = explorer_of(ast.parse(cell.source).body)
        page = next(drawn, None) if call is not None else None
        moves = call is not None and any(k.arg not in NO_CONTROL for k in call.keywords)
        cell.outputs = [_output(given, code, page, frames_at, live, moves) for given in cell.outputs]
    head = next(cell for cell in notebook.cells if cell.cell_type == "markdown")
    head.source += f"\n\n{_links(path, code, live)}"
    return notebook


def _output(given, code, page, frames_at, live, moves):
    data = given.get("data", {})
    if "image/png" in data:
        if page and "first" in page:
            found = player.markup(page, code, frames_at(page), live, png=data["image/png"])
        else:
            alt = given.get("metadata", {}).get("image/png", {}).get("alt", data.get("text/plain", ""))
            found = player.still(data["image/png"], alt, code, live if moves else None)
    elif "text/html" in data:
        found = CHAPTER.sub(r'\1.html"', output(data["text/html"], code))  # to the page, not to the file
    else:
        return given
    return nbformat.v4.new_output("display_data", {"text/html": found})


def _links(path, code, live):
    links = [f'<a href="{live}" download>{pick(code, *OPEN)}</a>']
    if repository():
        address = colab_address(path.relative_to(ROOT).as_posix(), "en" if code == "en" else "zh", repository())
        links.append(f'<a href="{address}">{pick(code, *COLAB)}</a>')
    return f'<p class="nc-open">{" · ".join(links)}</p>'


# --- reference ----------------------------------------------------------------------------------------------------


def _reference(code, folder):
    """A page for each public module of the package. Returns their names."""
    found = []
    for module in pkgutil.iter_modules(normcourse.__path__):
        if module.name in NOT_IN_REFERENCE:
            continue
        name = f"normcourse.{module.name}"
        own = members(importlib.import_module(name), name)
        text = [f"# {name}", "", "```{eval-rst}", f".. automodule:: {name}"]
        if own:
            text.append(f"   :members: {', '.join(own)}")
        _page(
            folder / f"{module.name}.md", "\n".join([*text[:2], '<div lang="en">', "", *text[2:], "```", "", "</div>"])
        )
        found.append(module.name)
    head = pick(code, "参考", "Reference")
    tree = "\n".join(["```{toctree}", ":maxdepth: 1", "", *found, "```"])
    _page(folder / "index.md", f"# {head}\n\n{pick(code, *FOR_READERS)}\n\n{tree}")
    return found


def members(module, name):
    """Its public functions and classes that have a docstring and are its own, or come from a part of it."""
    return [
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__doc__
        and (value.__module__ == name or value.__module__.startswith(f"{name}."))
    ]
