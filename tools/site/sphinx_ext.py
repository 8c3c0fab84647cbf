"""What Sphinx is taught: formulas as MathML, search in Chinese by pairs of characters, the docstrings of the course,
which are plain text, as they stand."""

import re
import zlib
from pathlib import Path

from docutils import nodes
from sphinx.search import SearchLanguage

from .formulas import mathml

RUNS = r"[\u3400-\u9fff]+|[a-z0-9_\u00b5-\u024f\u0370-\u03ff]+"


class ChineseByPairs(SearchLanguage):
    """Chinese without a dictionary: a run of characters is found by its pairs, words in Latin letters as they are."""

    lang, language_name = "zh", "Chinese"
    js_splitter_code = (
        f"const RUNS = /{RUNS}/g;"
        + """
function splitQuery(query) {
  return [...query.toLowerCase().matchAll(RUNS)].flatMap(([run]) =>
    /[\\u3400-\\u9fff]/.test(run) && run.length > 2 ? [...run].slice(1).map((c, i) => run[i] + c) : [run]);
}
"""
    )

    def split(self, input):
        found = []
        for run in re.findall(RUNS, input.lower()):
            chinese = "\u3400" <= run[0] <= "\u9fff"
            found += [run[i : i + 2] for i in range(len(run) - 1)] if chinese and len(run) > 2 else [run]
        return found

    def word_filter(self, word):
        return not word.isdigit()


def inline(self, node):
    self.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def block(self, node):
    self.body.append(f'<div class="math">{mathml(node.astext(), block=True)}</div>')
    raise nodes.SkipNode


def plain_docstring(app, what, name, obj, options, lines):
    """reStructuredText that shows a docstring of the house: paragraphs, `code`, indented tables, Args: and Returns:."""
    blocks, kept = re.split(r"\n\s*\n", "\n".join(lines).strip("\n")), []
    for part in blocks:
        rows = part.split("\n")
        if rows[0].startswith(" "):
            kept += ["::", "", *(f"    {row}" for row in rows), ""]
            continue
        item = ""
        for row in rows:
            begins = re.match(r"(Args|Returns|Raises|Source|Shapes?): ?(.*)", row)
            entry = re.match(r" {0,4}(\w+(?:, \w+)*): (.*)", row)
            if begins:
                item = ""
                kept += ["", f"**{begins[1]}:** {escaped(begins[2])}"]
            elif entry:
                item = "  "
                kept += ["", f"- **{entry[1]}**: {escaped(entry[2])}"]
            else:
                kept.append(item + escaped(row.strip()))
        kept.append("")
    lines[:] = kept


def escaped(words):
    """Words as they stand, with `code` set as code."""

    def part(i, piece):
        if i % 2:
            return f"\\ ``{piece.strip()}``\\ "
        return re.sub(r"([\\*_|`:])", r"\\\1", piece)

    return "".join(part(*each) for each in enumerate(re.split(r"`([^`]+)`", words)))


def setup(app):
    app.add_search_language(ChineseByPairs)
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("autodoc-process-docstring", plain_docstring)
    state = zlib.crc32(Path(__file__).read_bytes())  # what it makes of a page changes with it
    return {"parallel_read_safe": True, "parallel_write_safe": True, "env_version": state}
