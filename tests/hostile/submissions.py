"""Broken, oversized and tampered files."""

import io
import json
import os
import struct
import zipfile

from . import HONEST, IMPORTS, attack, broken, notebook


def cell(source, **metadata):
    return {"cell_type": "code", "source": source, "metadata": metadata, "outputs": [], "execution_count": None}


attack(
    "tampered_metadata",
    "gives itself 1000 points in nbgrader's metadata and unlocks the checks",
    cell("import torch"),
    cell(
        "# EXERCISE: layer_norm\nlayer_norm = lambda x, *a: x",
        nbgrader={"grade_id": "layer_norm", "points": 1000, "grade": True, "locked": False},
    ),
    cell(
        "layer_norm_check = 1000",
        nbgrader={"grade_id": "layer_norm_check", "points": 1000, "score": 1000, "grade": True},
    ),
    cell("raise KeyError", nbgrader=["no", "dict"]),
    {"cell_type": "code", "source": {"no": "text"}, "metadata": None},
    {"cell_type": 7},
)
attack(
    "duplicate_markers",
    "marks two cells for one task; the later one, which is wrong, counts",
    IMPORTS,
    HONEST["welford"],
    "# EXERCISE: welford\ndef welford(x):\n    return x, x",
)
attack(
    "marker_of_another",
    "marks a cell for two tasks with one definition",
    IMPORTS,
    "# EXERCISE: layer_norm\n# EXERCISE: welford\n# EXERCISE: layer_norm_backward\ndef layer_norm(*a):\n    return a[0]",
)
attack(
    "missing_cells",
    "three of the four cells are deleted; the fourth is honest",
    IMPORTS,
    HONEST["merge_statistics"],
    earned=3.0,
)
attack(
    "no_code_at_all",
    "only text, with the right markers",
    {"cell_type": "markdown", "source": "# EXERCISE: layer_norm", "metadata": {}},
    {"cell_type": "markdown", "source": "<!-- EXERCISE: why_not_batch_norm --> 答", "metadata": {}},
)
attack(
    "odd_letters",
    "null bytes, lone surrogates, a byte order mark and right-to-left marks in the code",
    "\x00",
    "x = '\ud800'",
    "\ufeffy = 1",
    "# \u202e EXERCISE",
    "# EXERCISE: welford\n\x00def welford(x): return x",
)
attack(
    "syntax_errors",
    "code that is not Python; one task is honest",
    "def (",
    "# EXERCISE: layer_norm\ndef layer_norm(x:\n",
    IMPORTS,
    HONEST["welford"],
    earned=3.0,
)
attack(
    "report_injection",
    "puts HTML, scripts and formulas into error messages",
    *["# EXERCISE: layer_norm\ndef layer_norm(*a):\n    raise ValueError('<script>alert(1)</script>=HYPERLINK(1)')"],
)


def one(folder, name, content):
    (folder / name).mkdir()
    (folder / name / "03_layer_normalisation.ipynb").write_bytes(content)


@broken("huge", "a notebook of 200 MB")
def huge(folder):
    one(folder, "huge", b"")
    os.truncate(folder / "huge" / "03_layer_normalisation.ipynb", 200 << 20)


@broken("cut_short", "broken JSON")
def cut_short(folder):
    one(folder, "cut_short", notebook("import torch")[:-20])


@broken("empty_file", "a file without a byte")
def empty_file(folder):
    one(folder, "empty_file", b"")


@broken("a_picture", "not a notebook: a PNG with the name of one")
def a_picture(folder):
    one(folder, "a_picture", b"\x89PNG\r\n\x1a\n" + os.urandom(1000))


@broken("a_list", "JSON, but no notebook")
def a_list(folder):
    one(folder, "a_list", b"[1, 2, 3]")


@broken("deep_json", "JSON nested deeper than a parser can go")
def deep_json(folder):
    one(folder, "deep_json", b"[" * 1_000_000)


@broken("huge_numbers", "JSON with an integer of a million digits")
def huge_numbers(folder):
    one(folder, "huge_numbers", b'{"cells": ' + b"9" * 1_000_000 + b"}")


@broken("deep_code", "expressions nested too deep for a parser")
def deep_code(folder):
    deep = ["x = " + "(" * 5000 + ")" * 5000, "y = " + "-" * 100_000 + "1", "z = " + "not " * 1_000_000 + "1"]
    one(folder, "deep_code", notebook(*deep, "# EXERCISE: layer_norm\nlayer_norm = len"))


@broken("a_document", "a text document")
def a_document(folder):
    (folder / "a_document").mkdir()
    (folder / "a_document" / "answer.docx").write_bytes(b"PK\x03\x04")


@broken("an_empty_folder", "a learner who handed in nothing")
def an_empty_folder(folder):
    (folder / "an_empty_folder").mkdir()


@broken("a_link", "a link to a file outside")
def a_link(folder):
    (folder / "a_link").mkdir()
    (folder / "a_link" / "03_layer_normalisation.ipynb").symlink_to("/etc/passwd")


@broken("a_pipe", "a named pipe, which blocks whoever opens it")
def a_pipe(folder):
    (folder / "a_pipe").mkdir()
    os.mkfifo(folder / "a_pipe" / "03_layer_normalisation.ipynb")


@broken("another_course", "a notebook of another course")
def another_course(folder):
    (folder / "another_course").mkdir()
    (folder / "another_course" / "homework.ipynb").write_bytes(notebook("print(1)"))


def zipped(folder, name, members):
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members:
            archive.writestr(member, content)


@broken("slip", "a zip whose paths lead out of it")
def zip_slip(folder):
    zipped(folder, "slip.zip", [("../../slipped/03_layer_normalisation.ipynb", notebook("1"))])


@broken("absolute", "a zip with an absolute path")
def zip_absolute(folder):
    zipped(folder, "absolute.zip", [("/tmp/slipped/03_layer_normalisation.ipynb", notebook("1"))])


@broken("bomb", "a zip bomb: a gigabyte of spaces")
def zip_bomb(folder):
    with (
        zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("03_layer_normalisation.ipynb", "w", force_zip64=True) as member,
    ):
        for _ in range(64):
            member.write(b" " * (16 << 20))


@broken("understated", "a zip whose member is larger than it says")
def zip_understated(folder):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("03_layer_normalisation.ipynb", b" " * (64 << 20))
    raw = content.getvalue().replace(struct.pack("<I", 64 << 20), struct.pack("<I", 1000))
    (folder / "understated.zip").write_bytes(raw)


@broken("matryoshka", "zips within zips within zips")
def zip_matryoshka(folder):
    content = notebook("1")
    for depth in range(8):
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w") as archive:
            archive.writestr("03_layer_normalisation.ipynb" if depth == 0 else "matryoshka.zip", content)
        content = inner.getvalue()
    (folder / "matryoshka.zip").write_bytes(content)


@broken("broken_zip", "a zip that was cut short")
def zip_cut(folder):
    zipped(folder, "broken_zip.zip", [("03_layer_normalisation.ipynb", notebook("1"))])
    os.truncate(folder / "broken_zip.zip", 100)


@broken("garbled", "a zip whose member is damaged")
def zip_garbled(folder):
    zipped(folder, "garbled.zip", [("03_layer_normalisation.ipynb", json.dumps(list(range(2000))))])
    raw = bytearray((folder / "garbled.zip").read_bytes())
    raw[100:200] = os.urandom(100)
    (folder / "garbled.zip").write_bytes(raw)


@broken("a_zip_of_nothing_named", "a zip with a member whose name is a dot")
def _(folder):
    with zipfile.ZipFile(folder / "a_zip_of_nothing_named.zip", "w") as archive:
        archive.writestr(".", b"x")


@broken("a_zip_of_very_many", "a zip of hundreds of empty notebooks")
def _(folder):
    with zipfile.ZipFile(folder / "a_zip_of_very_many.zip", "w") as archive:
        for number in range(300):
            archive.writestr(f"{number}.ipynb", b'{"cells": []}')
