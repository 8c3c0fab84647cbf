"""The site's code, without building it: `make test-site` builds all of it and drives a browser."""

import ast
import base64
import importlib
import inspect
import io
import itertools
import json
import re
import zlib

import nbformat
import numpy as np
import pandas as pd
import pytest

from normcourse import canvas, i18n
from tools import ROOT
from tools.build_notebooks import lessons
from tools.site import claims, explorers, frames, grid, languages, links, player, sources

NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))


@pytest.fixture(autouse=True)
def both_languages():
    yield
    i18n.set_language("both")


# --- the grid -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 37, 100])
@pytest.mark.parametrize("size", [2, 3, 8, 200])
def test_a_thinned_slider_keeps_its_ends_and_its_start(count, size):
    for start in {0, 1, count // 3, count - 1}:
        kept = grid.thinned(count, start, size)
        assert {0, start, count - 1} <= {*kept} <= {*range(count)}
        assert kept == sorted({*kept}) and len(kept) <= max(size, 3)


CONTROLS = [
    ([5, 4], [0, 1], [True, False]),
    ([37, 100, 3, 3], [8, 49, 1, 0], [True, True, False, False]),
    ([25, 17, 3, 21], [24, 2, 0, 0], [True, True, False, True]),
    ([100, 37, 11, 2], [40, 8, 0, 1], [True, True, False, False]),
    ([12], [3], [True]),
    ([40, 40, 40, 40, 40, 40], [0] * 6, [True] * 6),
]


@pytest.mark.parametrize("limit", [1, 20, 60, 400])
@pytest.mark.parametrize(("counts", "start", "sliders"), CONTROLS)
def test_the_grid_has_the_start_and_no_more_positions_than_allowed(counts, start, sliders, limit):
    kept, positions = grid.grid(counts, start, sliders, limit)
    assert positions[0] == tuple(start)
    assert len(positions) == len({*positions}) <= max(limit, 1 + sum(map(len, kept)))
    for position in positions:
        assert all(i in places for places, i in zip(kept, position))


@pytest.mark.parametrize(("counts", "start", "sliders"), CONTROLS)
def test_every_position_that_one_control_leads_to_from_the_start_is_drawn(counts, start, sliders):
    kept, positions = grid.grid(counts, start, sliders, 60)
    for i, places in enumerate(kept):
        for place in places:
            assert (*start[:i], place, *start[i + 1 :]) in positions


def test_where_all_combinations_are_few_all_are_drawn():
    kept, positions = grid.grid([5, 4], [0, 1], [True, False], 60)
    assert {*positions} == {*itertools.product(range(5), range(4))} and kept == [[*range(5)], [*range(4)]]


def test_the_control_that_plays_goes_through_more_positions_than_the_others():
    kept, _ = grid.grid([25, 25, 25], [0, 0, 0], [True] * 3, 60, main=1)
    assert len(kept[1]) > len(kept[0]) and len(kept[1]) > len(kept[2])


# --- what an explorer needs ---------------------------------------------------------------------------------------

LESSON = """\
import math
slow = [i for i in range(10 ** 9)]
rows = []
for k in range(3):
    rows.append(k)
def other(depth):
    return slow
def experiment(depth=1):
    return helper(depth)
def helper(depth, slow=3):
    slow = depth
    return rows, slow
print(slow)
explore(experiment, draw, depth=(1, 3))
"""


def test_an_explorer_gets_the_statements_that_it_reads_and_no_others():
    body = ast.parse(LESSON).body
    names = {ast.unparse(node).split("\n")[0] for node in explorers.needed(body[:-1], explorers.explorer_of(body))}
    assert names == {
        "rows = []",
        "for k in range(3):",
        "def experiment(depth=1):",
        "def helper(depth, slow=3):",
    }


TRAINED = """\
import pandas as pd
from course import data
for place in range(2):
    model = train(place)
    rows = [model.loss()]
pd.DataFrame(rows).set_index("place")
grid = data.recorded("long")
for place, runs in grid.groupby("place"):
    print(place, runs)
rows = grid[grid.place == 1]
model = rows
def shown(depth=1):
    model = grid.query("depth == 1")
    return rows, model
torch.set_num_threads(1)
explore(shown, draw, depth=(1, 3))
"""


def test_what_is_bound_anew_or_only_read_needs_nothing_from_before():
    body = ast.parse(TRAINED).body
    names = [ast.unparse(node).split("\n")[0] for node in explorers.needed(body[:-1], explorers.explorer_of(body))]
    assert names == [
        "from course import data",
        "grid = data.recorded('long')",
        "rows = grid[grid.place == 1]",
        "def shown(depth=1):",
    ]


def test_what_changes_an_object_is_needed_and_so_is_what_a_function_reads_when_it_is_called():
    lesson = """\
import torch
torch.manual_seed(3)
def shown(depth=1):
    return torch.rand(depth), model, helper()
model = 1
model = Model(model)
model.train()
def helper():
    return late
late = model[0]
late.size = 2
explore(shown, draw, depth=(1, 3))
"""
    body = ast.parse(lesson).body
    assert explorers.needed(body[:-1], explorers.explorer_of(body)) == body[:-1]


def test_a_function_of_a_lesson_can_be_read_as_in_a_notebook():
    space = {}
    explorers._run(ast.parse("def twice(x):\n    return 2 * x").body[0], space, "exec")
    assert inspect.getsource(space["twice"]) == "def twice(x):\n    return 2 * x"


def test_a_picture_without_controls_speaks_of_no_sliders():
    assert "slider" in player.still("AAAA", "a line", "en", "a.ipynb")
    assert "slider" not in player.still("AAAA", "a line", "en", None)


def test_a_text_with_a_section_for_each_language_begins_with_its_own_headings():
    for code in ("zh", "en"):
        levels = [len(m[1]) for m in re.finditer(r"^(#+) ", sources._doc("grading", code), re.M)]
        assert levels[0] == 1 and all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_preparation_ends_after_its_seconds():
    with pytest.raises(explorers.TookTooLong), explorers.at_most(0.05):
        while True:
            pass


def test_every_explorer_of_a_lesson_stands_in_its_notebook_too():
    for name, source in lessons():
        path = ROOT / "notebooks" / f"{name}.ipynb"
        if path.exists():
            cells = [c for c in nbformat.read(path, as_version=4).cells[1:] if c.cell_type == "code"]
            stored = [explorers.explorer_of(ast.parse(c.source).body) is not None for c in cells]
            assert sum(stored) == sum(call is not None for _, call in explorers.cells(source)), name


# --- pictures -----------------------------------------------------------------------------------------------------


def experiment(depth=3, kind="a"):
    return pd.DataFrame({"x": np.arange(depth), "y": np.arange(depth) * (1 if kind == "a" else 2)})


def drawing(frame, ax):
    canvas.setup(ax, ("层", "layer"), ("值", "value"), (0, 4), (0, 8))
    canvas.curve(ax, "one", frame["x"], frame["y"], canvas.text("曲线 < 8", "a curve < 8"))
    canvas.finding(ax, f"共 {len(frame)} 点", f"{len(frame)} points")


PIXEL = "R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


@pytest.fixture(scope="module")
def drawn():
    asked = explorers.ask(experiment, drawing, depth=(1, 4), kind=["a", "b"], play="depth")
    return frames.draw("99_test-0", asked)


def unpacked(text):
    name, data = re.fullmatch(r'normcourseFrames\("(.*)","(.*)"\)\n', text).groups()
    return name, json.loads(zlib.decompress(base64.b64decode(data), -15))


def test_a_file_of_pictures_holds_every_position_in_its_own_language(drawn):
    page, files = drawn
    for code, word, other in (("zh", "曲线", "a curve"), ("en", "a curve", "曲线")):
        name, data = unpacked(files[code])
        assert name == page["name"] and len(data["frames"]) == page["pictures"] == 8
        for key, numbers in data["frames"].items():
            picture = "\n".join(data["lines"][i] for i in numbers)
            assert word in picture and other not in picture
            points = int(key.split(",")[0]) + 1
            assert f"{points} {'点' if code == 'zh' else 'points'}" in data["alts"][key]
    assert "曲线" in unpacked(files["both"])[1]["lines"].__str__()


def test_a_picture_is_sound_xml_with_its_words_as_text_and_its_colours_for_both_looks(drawn):
    import xml.etree.ElementTree as ElementTree

    page, _ = drawn
    tree = ElementTree.fromstring(page["first"]["en"])
    words = " ".join("".join(t.itertext()) for t in tree.iter("text"))
    assert "a curve < 8" in words and "layer" in words and "3 points" in words
    assert "light-dark(#ffffff, #111111)" in page["first"]["en"]
    assert not re.search(r"<style|metadata|font-family|\d\.\d{4}", page["first"]["en"])


def test_markers_become_one_path_about_their_places():
    lines = ["<defs>", '<path id="m1" d="M 0 -1 L 2 1.5 z" style="stroke: #444444"/>', "</defs>", "<g>"]
    lines += [
        '<use href="#m1" x="10" y="20.5" style="fill: #d55e00"/>',
        '<use href="#m1" x="0" y="1" style="fill: #d55e00"/>',
    ]
    lines += ['<use href="#m1" x="5" y="5" style="fill: #0072b2"/>', "</g>"]
    assert frames.merged(lines) == [
        "<g>",
        '<path d="M 10.0 19.5 L 12.0 22.0 z M 0.0 0.0 L 2.0 2.5 z" style="fill: #d55e00; stroke: #444444"/>',
        '<path d="M 5.0 4.0 L 7.0 6.5 z" style="fill: #0072b2; stroke: #444444"/>',
        "</g>",
    ]


def test_a_page_starts_at_the_explorers_own_position(drawn):
    page, _ = drawn
    assert [c["values"]["en"][i] for c, i in zip(page["controls"], page["start"])] == ["3", "a"]
    assert page["play"] == 0 and [c["kind"] for c in page["controls"]] == ["slider", "choice"]
    html = player.markup(page, "zh", "frames.js", "live.ipynb")
    given = json.loads(re.search(r'<script type="application/json">(.*?)</script>', html)[1])
    assert given["controls"][0]["label"] == "层数" and 'lang="zh-CN"' in html and "共 3 点" in html


def test_a_heavy_first_picture_waits_for_the_others_and_the_stored_one_stands_in_its_place(drawn, monkeypatch):
    page, _ = drawn
    assert "<svg" in player.markup(page, "en", "frames.js", "live.ipynb", png="QUJD")
    monkeypatch.setattr(player, "INLINE", 100)
    heavy = player.markup(page, "en", "frames.js", "live.ipynb", png="QUJD")
    assert "<svg" not in heavy and "base64,QUJD" in heavy and page["alt"]["en"].split("\n")[0] in heavy


def test_words_on_dark_are_legible_and_shapes_keep_the_colours_of_the_data():
    words = frames._colours('<text style="fill: #0072b2">', True)
    dark = re.search(r"light-dark\(#0072b2, (#\w+)\)", words)[1]
    assert canvas.contrast(dark, canvas.TONES["dark"]["paper"]) >= canvas.LEGIBLE
    shape = '<path style="stroke: #d55e00">'
    assert frames._colours(shape, False) == shape


@pytest.mark.slow
def test_the_check_moves_a_player_everywhere_and_sees_what_is_wrong_with_it(drawn, tmp_path, monkeypatch):
    from tools.browser import chromium
    from tools.site import check

    page, files = drawn
    own = ROOT / "tools" / "site"
    script = f"<script>{(own / 'player.js').read_text(encoding='utf-8')}</script>"

    def seen(text, png=None):
        (tmp_path / "frames.js").write_text(text, encoding="utf-8")
        html = player.markup(page, "en", "frames.js", "live.ipynb", png=png)
        (tmp_path / "page.html").write_text(f'<meta charset="utf-8">{html}{script}', encoding="utf-8")
        with chromium(800, 700) as browser:
            browser.goto((tmp_path / "page.html").as_uri())
            return browser.locator(".nc-player").evaluate(check.STEP)

    monkeypatch.setattr(player, "INLINE", 0)
    for png in (None, PIXEL):  # the first picture in the page, or in the file with the others
        done = seen(files["en"], png)
        assert done["keys"] == page["pictures"] == len(done["steps"]) + 1 and done["wrong"] == []

    name, data = unpacked(files["en"])
    pictures = {
        tuple(map(int, key.split(","))): [data["lines"][i] for i in numbers] for key, numbers in data["frames"].items()
    }
    alts = {position: data["alts"][",".join(map(str, position))] for position in pictures}
    without = {position: lines for position, lines in pictures.items() if position != (3, 0)}
    said = seen(frames.packed(name, without, alts | {(0, 1): ""}))["wrong"]
    assert "no words for 0,1" in said and "depth: 4 was not drawn" in said and len(said) == 2, said


# --- languages ----------------------------------------------------------------------------------------------------

TEXT = '# 01 标题 · Title\n\n<div lang="zh">\n\n中文\n\n</div>\n<div lang="en">\n\nEnglish\n\n</div>\n'


def test_a_text_in_one_language_has_nothing_of_the_other():
    assert languages.prose(TEXT, "zh").split() == ["#", "01", "标题", "中文"]
    assert languages.prose(TEXT, "en").split() == ["#", "01", "Title", "English"]
    assert languages.prose(TEXT, "both").count("nc-pair") == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])
def test_a_notebook_in_english_has_no_chinese_prose_and_a_player_or_a_picture_for_each_explorer(path):
    notebook = sources.in_language(path, "en", lambda page: "frames.js", "live.ipynb")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert not re.search("[\u4e00-\u9fff]{8}", cell.source), cell.source[:200]
            assert '<div lang="' not in cell.source
        else:
            pages = "".join(o.get("data", {}).get("text/html", "") for o in cell.outputs)
            if explorers.explorer_of(ast.parse(cell.source).body) is not None:
                assert pages.count("nc-player") + pages.count("nc-still") >= 1
            elif "<figure" not in pages:
                assert not re.search("<p>[^<]*[\u4e00-\u9fff]{12}", pages), pages[:300]


def test_a_search_finds_chinese_by_its_pairs():
    extension = pytest.importorskip("tools.site.sphinx_ext", reason="needs the extra `site`")
    split = extension.ChineseByPairs({}).split
    assert split("残差连接 Pre-Norm") == ["残差", "差连", "连接", "pre", "norm"]
    assert {*split("残差连接")} <= {*split("什么是残差连接？")}


def test_every_formula_becomes_mathml_with_no_command_left():
    formulas = pytest.importorskip("tools.site.formulas", reason="needs the extra `site`")
    found = set()
    for path in (*NOTEBOOKS, *ROOT.glob("exercises/*/*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                found |= {m[2] or m[3] for m in formulas.FORMULA.finditer(cell.source) if not m[1]}
    assert len(found) > 300
    for tex in found:
        page = formulas.mathml(tex)
        assert not re.search(r">[^<]*\\[a-zA-Z]", page), tex
    assert formulas.in_markdown("`$x$` costs $5 and $a_1*b$") == "`$x$` costs $5 and " + formulas.mathml(
        "a_1*b"
    ).replace("<mo>*", "<mo>&#42;").replace(">∗<", ">∗<")


def test_every_docstring_of_the_reference_becomes_sound_markup():
    core = pytest.importorskip("docutils.core", reason="needs the extra `site`")
    extension = pytest.importorskip("tools.site.sphinx_ext", reason="needs the extra `site`")
    for name in ("norms", "residual", "explore", "measure", "check", "claims"):
        module = importlib.import_module(f"normcourse.{name}")
        members = [getattr(module, key) for key in sources.members(module, f"normcourse.{name}")]
        for thing in (module, *members):
            lines, said = inspect.getdoc(thing).split("\n"), io.StringIO()
            extension.plain_docstring(None, None, None, None, None, lines)
            settings = {"warning_stream": said, "report_level": 1}
            core.publish_string("\n".join(lines), writer="null", settings_overrides=settings)
            assert not said.getvalue(), thing


def test_a_claims_picture_is_loaded_when_it_is_opened():
    from normcourse.chapters import chapters

    chapter = next(iter(chapters()))
    entry = {"name": "claims-G2", "start": [], "play": None, "pictures": 1, "controls": [], "alt": {"en": "words"}}
    html = claims._picture("G2", "en", {"G2": entry | {"first": {"en": ""}}}, chapter)
    assert html.startswith("<details") and "nc-player" in html and "words" in html and "<svg" not in html
    assert claims._picture("G3", "en", {"G2": entry}, chapter) == ""


# --- links --------------------------------------------------------------------------------------------------------


def test_links_of_readme_texts_and_notebooks_lead_somewhere():
    assert links.of_texts() == []


def test_the_link_check_sees_what_is_wrong(tmp_path):
    text = tmp_path / "page.md"
    text.write_text("[a](gone.md) [b](https://example.org) [c](page.md) `[d](no.md)`")
    assert len(links.of_texts([text])) == 2
    text = tmp_path / "other.md"
    text.write_text("# A head, line\n\n[a](#a-head-line) [b](#a-head) [c](page.md#x) https://example.org/a.")
    assert len(links.of_texts([text])) == 3
    html = nbformat.v4.new_output("display_data", {"text/html": '<a href="gone.ipynb">x</a><a href="page.md">y</a>'})
    cells = [
        nbformat.v4.new_code_cell("1", outputs=[html]),
        nbformat.v4.new_markdown_cell("<a href='x'> <https://a.b>"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "book.ipynb")
    said = links.of_texts([tmp_path / "book.ipynb"])
    assert len(said) == 3, said
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here">x</a><a href="#gone">y</a><script src="https://cdn.x/y.js">'
    )
    (tmp_path / "b.html").write_text('<p id="here"><a href="a.html">z</a><img src="c.png">')
    said = links.of_site(tmp_path)
    assert len(said) == 3 and "another host" in " ".join(said) and "no such anchor" in " ".join(said)


def test_the_bibliography_has_an_official_address_for_each_entry():
    for key, entry in links.papers().items():
        assert {*entry} == {"authors", "year", "title", "url", "chapters"}, key
        assert re.match(r"https://(arxiv\.org/abs/|doi\.org/|proceedings\.|docs\.pytorch\.org/)", entry["url"]), key
