"""`make stamp`: what is generated where learners meet it.

The first cell of every notebook and exercise, from the version and the repository's address in pyproject.toml; and the
tables of chapters in README.md, from the chapters themselves. Tests compare. Nothing is run: outputs stay as they are.
"""

import re

import nbformat

from normcourse.chapters import chapters

from . import ROOT, repository, version

STORED = ("notebooks/*.ipynb", "exercises/*/*.ipynb", "solutions/*/*.ipynb")
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
PAGES = "gh-pages"  # the branch that the notebooks for Colab are published to
FIRST_CELL = """\
# 在 Colab 和 Kaggle 上安装课程（不动 torch） · installs the course on Colab and Kaggle, leaves torch alone
import importlib.util
import os
import sys

if importlib.util.find_spec("normcourse") is None:
    if "google.colab" not in sys.modules and "KAGGLE_KERNEL_RUN_TYPE" not in os.environ:
        raise ImportError('没有装课程，在终端运行 · not installed; run in a terminal: pip install "normcourse[lab]"')
    %pip install --no-deps "{requirement}"
""".rstrip()


def requirement(address, number, sha256=None):
    """What pip installs: the wheel of this version's release, or by name from the index while there is no address.

    Args: sha256: of the wheel, in hex. It cannot stand in the notebooks that are part of that wheel; the ones
        published beside it have it (`make colab`).
    """
    if address is None:
        return f"normcourse=={number}"
    wheel = f"{address}/releases/download/v{number}/normcourse-{number}-py3-none-any.whl"
    return f"normcourse @ {wheel}" + (f"#sha256={sha256}" if sha256 else "")


def colab_address(path, language, repo):
    """Where a notebook of the course, in one language, opens in Colab."""
    owner = repo.removeprefix("https://github.com/")
    return f"https://colab.research.google.com/github/{owner}/blob/{PAGES}/colab/{language}/{path}"


def first_cell(sha256=None):
    """The generated first cell of every notebook and exercise."""
    source = FIRST_CELL.format(requirement=requirement(repository(), version(), sha256))
    cell = nbformat.v4.new_code_cell(source)
    cell.id = "install"
    return cell


def stamp(notebook, cell=None):
    """Put the first cell into a notebook, or a new one in the place of the old; execution counts go on from it."""
    old = notebook.cells[0].get("id") == "install"
    executed = any(cell.get("execution_count") for cell in notebook.cells)
    if not old:
        for other in notebook.cells:
            if other.cell_type == "code" and other.execution_count:
                other.execution_count += 1
                for output in other.outputs:
                    if "execution_count" in output:
                        output.execution_count += 1
    first = cell or first_cell()
    first.execution_count = 1 if executed else None
    notebook.cells[: 1 if old else 0] = [first]
    return notebook


def table(language, notebooks="", badges=None):
    """The chapters as a Markdown table in one language, "zh" or "en".

    Args: notebooks: where they lie, seen from the file that holds the table. badges: the repository's address, for a
        column of links that open a chapter in Colab.
    """
    heading, pending = (
        (("章", "量什么", "分钟"), "编写中")
        if language == "zh"
        else (("chapter", "what is measured", "minutes"), "being written")
    )
    rows = [["", *heading, *(["Colab"] if badges else [])]]
    rows.append(["---"] * len(rows[0]))
    for chapter in chapters():
        title = chapter.title[language]
        if chapter.lesson:
            title = f"[{title}]({notebooks}{chapter.name}.ipynb)"
        row = [
            f"{chapter.number:02d}",
            title,
            chapter.measures[language],
            str(chapter.minutes) if chapter.lesson else pending,
        ]
        if badges:
            where = colab_address(f"notebooks/{chapter.name}.ipynb", language, badges)
            row.append(f"[![Colab]({BADGE})]({where})" if chapter.lesson else "")
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows)


def readme(text):
    """The README with its tables of chapters made anew, between `<!-- chapters zh -->` and `<!-- end -->`."""
    for language in ("zh", "en"):
        new = f"<!-- chapters {language} -->\n{table(language, 'notebooks/', repository())}\n<!-- end -->"
        places = re.findall(rf"<!-- chapters {language} -->.*?<!-- end -->", text, re.S)
        if len(places) != 1:
            raise ValueError(f"README.md has {len(places)} places for the table in {language}; expected 1")
        text = text.replace(places[0], new)
    return text


def main():
    path = ROOT / "README.md"
    path.write_text(readme(path.read_text(encoding="utf-8")), encoding="utf-8")
    for path in sorted(file for pattern in STORED for file in ROOT.glob(pattern)):
        before = path.read_text(encoding="utf-8")
        notebook = stamp(nbformat.reads(before, as_version=4))
        if (text := nbformat.writes(notebook) + "\n") != before:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
