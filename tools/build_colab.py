"""`make colab`: colab/zh and colab/en, the notebooks and exercises in one language, for the badges.

Made from the same files as everybody's. Colab shows no stylesheet of ours, so the other language's prose is left out
instead of hidden; links are absolute and pictures are in the file, since in Colab nothing lies beside a notebook. With
--wheel the first cell also pins the hash of that file. The workflow of a release publishes the folder; it is not
committed.
"""

import argparse
import base64
import hashlib
import re
from pathlib import Path

import nbformat

from . import ROOT, repository
from .stamp import colab_address, first_cell

BLOCK = re.compile(r'<div lang="(zh|en)">\n\n(.*?)\n\n</div>\n?', re.S)
HEADING = re.compile(r"^(#+ (?:\d\d )?)(.+?) · (.+)$", re.M)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#|data:|attachment:)([^)\s]+)\)")


def in_one_language(path, language, repo=None, sha256=None):
    """The notebook at `path` with the prose of one language ("zh" or "en"), without outputs.

    Args: repo: address of the repository; without one a link to another notebook becomes its words.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0] = first_cell(sha256)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = cell.source.replace("language_switch()", f'language_switch("{language}")')
        else:
            text = BLOCK.sub(lambda m: m[2] + "\n\n" if m[1] == language else "", cell.source)
            text = HEADING.sub(lambda m: m[1] + m[2 if language == "zh" else 3], text)
            cell.source = LINK.sub(lambda m: absolute(m, path, language, repo), text).strip()
    return notebook


def absolute(match, path, language, repo):
    bang, words, target = match.groups()
    file, _, anchor = target.partition("#")
    file = (path.parent / file).resolve()
    if not file.exists():
        raise FileNotFoundError(f"{path.relative_to(ROOT)} links to {target}, which is not there")
    if bang:
        return f"![{words}](data:image/{file.suffix[1:]};base64,{base64.b64encode(file.read_bytes()).decode()})"
    if repo is None:
        return words
    name = file.relative_to(ROOT).as_posix()
    where = colab_address(name, language, repo) if file.suffix == ".ipynb" else f"{repo}/blob/HEAD/{name}"
    return f"[{words}]({where}{'#' * bool(anchor)}{anchor})"


def build(folder, repo=None, wheel=None):
    """Write every notebook and exercise, once a language, into folder/zh and folder/en."""
    sha256 = hashlib.sha256(Path(wheel).read_bytes()).hexdigest() if wheel else None
    for path in sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("exercises/*/*.ipynb")]):
        for language in ("zh", "en"):
            target = Path(folder) / language / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(in_one_language(path, language, repo, sha256), target)


def main():
    parser = argparse.ArgumentParser(prog="python -m tools.build_colab", description=__doc__.split("\n")[0])
    parser.add_argument("--wheel", help="the released wheel, whose hash the first cell pins")
    build(ROOT / "colab", repository(), parser.parse_args().wheel)


if __name__ == "__main__":
    main()
