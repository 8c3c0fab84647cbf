"""The notebooks' form: two languages in step, sources and .ipynb in step, pictures that a reader without a kernel sees."""

import ast
import json
import re
import subprocess
import sys
from collections import Counter

import jupytext
import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from nbconvert import HTMLExporter

from normcourse.i18n import _SIDE_BY_SIDE, GLOSSARY, LANGUAGES, TERMS, header, language, set_language, table, term, text
from normcourse.theme import look, set_look
from tools import ROOT
from tools.build_exercises import exercises
from tools.build_notebooks import NOTEBOOKS, WIDGET, lessons, read
from tools.site.explorers import explorer_of
from tools.site.sources import NO_CONTROL

BLOCK = re.compile(r'<div lang="(zh|en)">\n\n(.*?)\n\n</div>', re.S)
CHINESE = re.compile(r"[\u4e00-\u9fff]")
# What the prose must not call a thing that the glossary names otherwise.
OTHER_WORDS = [
    "残差链接",
    "层标准化",
    "层正则化",
    "批标准化",
    "初始值化",
    "雅克比",
    "激活函数值",
    "后归一化",
    "前归一化",
    "录制",
    "垂直",
    "权重的长度",
    "单元的均值",
    "代码格",
]

each_lesson = pytest.mark.parametrize(
    ("name", "source"), lessons(), ids=lambda part: part if isinstance(part, str) else ""
)
each_text = pytest.mark.parametrize(  # of a chapter or an exercise
    ("name", "source"), [*lessons(), *exercises()], ids=lambda part: part if isinstance(part, str) else part.stem
)
ESSAY = re.compile(r"<!-- EXERCISE: \w+ -->|### (BEGIN|END) SOLUTION\n?")


def prose(source):
    return [ESSAY.sub("", cell.source) for cell in read(source).cells if cell.cell_type == "markdown"]


def built(name):
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


@each_text
def test_what_stands_beside_both_languages_spans_them(name, source):
    """The style names it by tag, because a rule for any element is slow, see `i18n`."""
    spanning = set(re.search(r":is\((.*?)\)", _SIDE_BY_SIDE, re.S)[1].replace(",", " ").split())
    for cell in prose(source):
        if {"zh", "en"} <= {language for language, _ in BLOCK.findall(cell)}:
            page = BeautifulSoup(MarkdownIt().enable("table").render(BLOCK.sub("", cell)), "html.parser")
            assert {tag.name for tag in page.find_all(recursive=False)} <= spanning


@each_text
def test_every_prose_cell_says_the_same_in_both_languages(name, source):
    for cell in prose(source):
        blocks = BLOCK.findall(cell)
        rest = BLOCK.sub("", cell)
        assert "<div" not in rest, f"a block without its blank lines: {cell[:80]}"
        if not blocks:  # headings carry both languages on one line, tables a column for each
            for line in filter(None, (line.strip() for line in cell.splitlines())):
                assert line.startswith(("#", "|")), f"prose outside the language blocks: {line[:80]}"
            continue
        languages = [lang for lang, _ in blocks]
        assert languages == ["zh", "en"] * (len(blocks) // 2), f"languages are {languages} in: {cell[:80]}"
        for (_, zh), (_, en) in zip(blocks[::2], blocks[1::2]):
            assert len(CHINESE.findall(zh)) > 3 and not CHINESE.search(re.sub("[中文并排]", "", en)), en[:80]
            for what, pattern in (
                ("formulas", r"\$\$.+?\$\$|\$[^$]+\$"),
                ("code", r"`[^`]+`"),
                ("links", r"\]\(([^)]*)\)"),
            ):
                assert Counter(re.findall(pattern, zh, re.S)) == Counter(re.findall(pattern, en, re.S)), (
                    f"{what} differ: {zh[:60]}"
                )
            assert zh.count("\n- ") == en.count("\n- ") and zh.count("\n\n") == en.count("\n\n"), (
                f"structure differs: {zh[:60]}"
            )
            words, characters = len(re.findall(r"[A-Za-z]{2,}", en)), len(CHINESE.findall(zh))
            assert 0.6 < characters / words < 3.5, f"lopsided, {characters} characters and {words} words: {zh[:60]}"


@each_text
def test_headings_carry_both_languages(name, source):
    headings = [line for cell in prose(source) for line in cell.splitlines() if line.startswith("#")]
    assert headings[0].startswith(f"# {name[:2]} ")
    for heading in headings:
        assert re.fullmatch(r"#+ .*[\u4e00-\u9fff].* · .*[A-Za-z].*|#+ \d\d .*|## RMSNorm", heading), heading


@each_text
def test_glossary_terms_are_translated_as_the_glossary_says(name, source):
    for cell in prose(source):
        for _, block in BLOCK.findall(cell):
            for word in OTHER_WORDS:
                assert word not in block.replace("残差后归一化", ""), (
                    f"{word} in {block[:60]}: see GLOSSARY in normcourse/i18n.py"
                )
        blocks = BLOCK.findall(cell)
        for (_, zh), (_, en) in zip(blocks[::2], blocks[1::2]):
            en = re.sub(r"\]\([^)]*\)", "]", en)  # files have English names
            for english in (
                "singular value",
                "Jacobian",
                "learning rate",
                "mean-field theory",
                "initialisation",
                "orthogonal",
                "precomputed",
                "residual stream",
                "Scaled Pre-Norm",
                "variance",
            ):
                if english in en.lower() or english in en:
                    assert GLOSSARY[english] in zh, f"{english!r} without {GLOSSARY[english]} in: {zh[:80]}"


@each_text
def test_prose_is_spelled_with_chinese_punctuation_and_no_emoji(name, source):
    for cell in prose(source):
        for lang, block in BLOCK.findall(cell):
            plain = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)", "", block, flags=re.S)
            assert not re.search("[\U0001f000-\U0001faff]", plain)
            if lang == "zh":
                wrong = re.findall(r"[\u4e00-\u9fff][,;:?!]|[\u4e00-\u9fff]\.(?:\s|$)", plain)
                assert not wrong, f"{wrong} in {block[:60]}"


@each_text
def test_code_cells_are_short_enough_to_read(name, source):
    lengths = [
        len([line for line in cell.source.splitlines() if line.strip()])
        for cell in read(source).cells
        if cell.cell_type == "code"
    ]
    assert max(lengths) <= 25
    assert sorted(lengths)[len(lengths) // 2] <= 12


@each_lesson
def test_the_notebook_was_made_from_its_source(name, source):
    made, wanted = built(name), read(source)
    assert [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in made.cells] == [
        (c.cell_type, c.source, c.metadata.get("tags", [])) for c in wanted.cells
    ], f"run `make notebooks ONLY={name[:2]}`"
    counts = [cell.execution_count for cell in made.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "cells were not run in order"


def test_every_notebook_has_a_source():
    assert {p.stem for p in NOTEBOOKS.glob("*.ipynb")} == {name for name, _ in lessons()}


@each_lesson
def test_stored_outputs_are_small_clean_and_have_pictures_with_words(name, source):
    notebook = built(name)
    pictures = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            blob = json.dumps(output)
            assert output.output_type != "error" and output.get("name") != "stderr", f"{cell.source[:60]}: {blob[:300]}"
            assert WIDGET not in blob and not re.search(r"/(home|root|work|tmp)/\w", blob)
            data = output.get("data", {})
            if "image/png" in data:
                pictures += 1
                assert len(data["image/png"]) < 150_000
                alt = output.metadata["image/png"]["alt"]
                assert len(alt) > 20 and CHINESE.search(alt) and re.search("[a-z]{3}", alt)
    assert pictures == source.read_text(encoding="utf-8").count("\nexplore(")
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size <= 600_000


@pytest.mark.slow
@each_lesson
@pytest.mark.parametrize("template", ["html_template", "classic"])
def test_html_without_a_kernel_shows_every_explorer_with_alt_text(name, source, template):
    """With the project's template (`make html`) and nbconvert's classic one; its lab template leaves alt texts out."""
    notebook = built(name)
    html, _ = HTMLExporter(template_name=template, extra_template_basedirs=[str(ROOT / "tools")]).from_notebook_node(
        notebook
    )
    images = [
        image for image in BeautifulSoup(html, "html.parser").select("img") if image["src"].startswith("data:image/png")
    ]
    outputs = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert [image["alt"] for image in images] == [output.metadata["image/png"]["alt"] for output in outputs]
    assert len(images) == source.read_text(encoding="utf-8").count("\nexplore(")


@each_lesson
def test_only_explorers_and_machine_dependent_cells_escape_the_comparison_of_outputs(name, source):
    for cell in read(source).cells:
        if cell.cell_type == "code" and "nbval-ignore-output" in cell.metadata.get("tags", []):
            reasons = ("explore(", "language_switch()", "milliseconds(", "train(", "importlib.metadata", 'card("G8")')
            reasons = (
                *reasons,
                'answer("05-faster"',
                "court(docket)",
                "docket = sit()",
                "alike_and_gradient(",
            )  # a time; a bar that a slow machine shows; what training leads to
            assert any(reason in cell.source for reason in reasons), cell.source[:80]


@pytest.mark.slow
@pytest.mark.parametrize("changed", [False, True])
def test_nbval_fails_when_a_stored_number_is_changed(changed, tmp_path):
    notebook = built("01_vanishing_gradients")
    cell = next(c for c in notebook.cells if "0.00098" in json.dumps(c.get("outputs", [])))
    if changed:
        cell.outputs[0].text = cell.outputs[0].text.replace("0.00098", "0.00097")
    imports = next(c for c in notebook.cells if c.cell_type == "code" and c.id != "install")
    notebook.cells = [imports, cell]
    nbformat.write(notebook, tmp_path / "copy.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "copy.ipynb"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == (1 if changed else 0), run.stdout
    assert ("1 failed, 1 passed" if changed else "2 passed") in run.stdout


def test_text_follows_the_language():
    assert set(LANGUAGES) == {"zh", "en", "both"}
    try:
        for code, expected in (("zh", "层"), ("en", "layer"), ("both", "层\nlayer")):
            set_language(code)
            assert language() == code and text("层", "layer") == expected
        assert term("depth") == "层数 depth" and term("relu") == "ReLU" and term("16") == "16"
        with pytest.raises(ValueError, match="unknown language 'fr'; known are zh, en, both"):
            set_language("fr")
    finally:
        set_language("both")


def test_the_switch_hides_the_other_language_and_follows_from_elsewhere():
    from normcourse.i18n import language_switch

    try:
        switch = language_switch("zh")
        assert "[lang=en]" in switch.style.value and "nc-zh" in switch.style.value
        switch.buttons.value = "en"
        assert language() == "en" and "[lang=zh]" in switch.style.value
        set_language("both")
        assert switch.buttons.value == "both" and "grid" in switch.style.value
        switch.looks.value = "dark"
        assert look() == "dark"
        set_look("light")
        assert switch.looks.value == "light"
    finally:
        set_language("both")
        set_look("light")


# Headers that are the same in both languages: names of functions, symbols, numbers.
AS_IN_CODE = re.compile(r"F\.\w+( / F\.\w+)?|layer_norm / rms_norm|RMSNorm|std|True|False|(?!.*[A-Za-z]{3}).*")


@each_lesson
def test_table_headers_are_there_in_chinese_too(name, source):
    """What is missing goes into the words.toml of its chapter."""
    pages = [output.get("data", {}).get("text/html", "") for c in built(name).cells for output in c.get("outputs", [])]
    headers = {h for page in pages if "dataframe" in page for h in re.findall(r"<th(?: [^>]*)?>([^<]+)<", page)}
    missing = {h for h in headers if not AS_IN_CODE.fullmatch(h) and h not in TERMS and not header(h)}
    assert not missing


@each_lesson
def test_controls_are_there_in_chinese_too(name, source):
    """What is missing goes into the words.toml of its chapter."""
    cells = [cell.source for cell in read(source).cells if cell.cell_type == "code" and "explore(" in cell.source]
    calls = [call for cell in cells if (call := explorer_of(ast.parse(cell).body)) is not None]
    controls = {k.arg for call in calls for k in call.keywords if k.arg not in NO_CONTROL}
    assert not {control for control in controls if control not in TERMS and len(control) > 1}


def test_a_table_has_its_headers_in_chinese_beside_the_names_in_code():
    frame = pd.DataFrame({"depth": [1], "my own": [2]})
    try:
        for code in ("both", "zh"):
            set_language(code)
            assert 'depth<span lang="zh"><br>层数</span></th>' in table(frame) and "<th>my own</th>" in table(frame)
        set_language("en")
        assert table(frame) == frame._repr_html_()
    finally:
        set_language("both")


def test_terms_have_both_languages():
    for name, (zh, en) in TERMS.items():
        assert zh and en and not CHINESE.search(en), name


def test_sources_are_myst_that_jupytext_reads_back_unchanged():
    for _, source in [*lessons(), *exercises()]:
        notebook = read(source)
        again = jupytext.reads(jupytext.writes(notebook, fmt="md:myst"), fmt="md:myst")
        assert [c.source for c in again.cells] == [c.source for c in notebook.cells]
