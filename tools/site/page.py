"""`make html`: each notebook as one web page, to read without a kernel: html/zh, html/en and html/both, with the site's
player and formulas, and no request to another host."""

import argparse
import shutil

from nbconvert import HTMLExporter

from normcourse.chapters import chapters

from .. import ROOT
from . import LANGUAGES, frames
from .formulas import in_markdown
from .languages import TAGS
from .sources import in_language

OWN = ROOT / "tools" / "site"
TARGET = ROOT / "html"
STYLE = "<style>:root { color-scheme: light; }\n%s\n.jp-OutputPrompt, .jp-InputPrompt { display: none; }</style>"
PAIR = ".nc-pair { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1.25fr); column-gap: 2.5em; }"


def page(path, code):
    """The HTML of a notebook in a language; its pictures are looked for in `frames/` beside it."""

    def frames_at(entry):
        name, _, number = entry["name"].rpartition("-")
        return f"frames/{name}/{number}-{code}.js"

    notebook = in_language(path, code, frames_at, f"../../{path.relative_to(ROOT).as_posix()}")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = in_markdown(cell.source)
    exporter = HTMLExporter(
        template_name="html_template",
        extra_template_basedirs=[str(ROOT / "tools")],
        language_code=TAGS[code],
        exclude_anchor_links=True,
    )
    html, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": path.stem}})
    style = STYLE % f"{(OWN / 'player.css').read_text(encoding='utf-8')}\n{PAIR}"
    script = f"<script>\n{(OWN / 'player.js').read_text(encoding='utf-8')}</script>"
    return html.replace("</head>", f"{style}\n</head>", 1).replace("</body>", f"{script}\n</body>", 1)


def main():
    parser = argparse.ArgumentParser(prog="python -m tools.site.page", description=__doc__)
    parser.add_argument("names", nargs="*", help="chapters, as 02; all by default")
    parser.add_argument("--no-frames", action="store_true", help="take the pictures that are there")
    options = parser.parse_args()
    if not options.no_frames:
        frames.course(options.names)
    for chapter in chapters():
        path = ROOT / "notebooks" / f"{chapter.name}.ipynb"
        if not path.exists() or (options.names and not chapter.name.startswith(tuple(options.names))):
            continue
        for code in LANGUAGES:
            folder = TARGET / code / "frames" / chapter.name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for pictures in (frames.FOLDER / chapter.name).glob(f"*-{code}.js"):
                shutil.copy(pictures, folder)
            (TARGET / code / f"{chapter.name}.html").write_text(page(path, code), encoding="utf-8")
        print(f"html/…/{chapter.name}.html")


if __name__ == "__main__":
    main()
