"""The project as a whole: imports, requirements, what the README promises."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_importing_normcourse_imports_nothing_heavy():
    code = "import sys, torch; before = set(sys.modules); import normcourse; print(*(set(sys.modules) - before))"
    new = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(new) == {"normcourse"}


@pytest.mark.slow
@pytest.mark.parametrize("module", ["registry", "norms", "residual", "models", "measure", "theory", "train", "data"])
def test_the_lower_modules_need_no_notebook_packages(module):
    code = f"import sys, normcourse.{module}; print(*[m.split('.')[0] for m in sys.modules])"
    new = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"matplotlib", "seaborn", "pandas", "ipywidgets", "triton", "IPython"} & set(new)


# A module or package of the course imports only those before it.
ORDER = [
    *(
        "cells",
        "registry",
        "norms",
        "residual",
        "fused",
        "models",
        "theory",
        "measure",
        "train",
        "data",
        "theme",
        "headers",
        "i18n",
        "progress",
        "canvas",
        "examine",
    ),
    *("explore", "record", "check", "chapters", "claims", "lab", "predict", "grade"),
]


def imports(path, package):
    """(module of the course, name) for everything of `package` that a file imports, in whatever form; name "" for a
    whole module."""
    home = path.relative_to(package.parent).with_suffix("").parts[:-1]  # the package that relative imports start from
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [(alias.name.split("."), "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = home[: len(home) - node.level + 1] if node.level else ()
            origin = [*above, *(node.module.split(".") if node.module else [])]
            found = [([*origin, alias.name], alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            names = [a.value for a in node.args[:1] if isinstance(a, ast.Constant)]
            found = [(name.split("."), "") for name in names]
        else:
            continue
        for (first, *rest), name in found:
            if first == package.name and rest:
                yield rest[0], name


def faults(package, order=ORDER):
    """What is imported against the order, and private names that are imported from elsewhere; in words."""
    rooms = {path.stem if path.is_file() else path.name: path for path in package.iterdir() if path.name[0] != "_"}
    rooms = {name: path for name, path in rooms.items() if path.suffix == ".py" or (path / "__init__.py").exists()}
    for room, path in rooms.items():
        if room not in order:
            yield f"{room} has no place in ORDER"
            continue
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            for used, name in imports(file, package):
                if used in rooms and used != room:
                    if order.index(used) > order.index(room):
                        yield f"{room}/{file.name} imports {used}"
                    if name.startswith("_"):
                        yield f"{room}/{file.name} imports {name} of {used}"


def test_imports_point_one_way_and_private_names_stay_at_home():
    assert list(faults(ROOT / "normcourse")) == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("from ..grade.report import page", "chapters/common.py imports grade"),
        ("from ..grade import report", "chapters/common.py imports grade"),
        ("from .. import grade", "chapters/common.py imports grade"),
        ("from .. import canvas, grade as g", "chapters/common.py imports grade"),
        ("import normcourse.grade", "chapters/common.py imports grade"),
        ("import os, normcourse.grade.report as r", "chapters/common.py imports grade"),
        ("from normcourse import grade", "chapters/common.py imports grade"),
        ("from normcourse.grade.report import (\n    page,\n)", "chapters/common.py imports grade"),
        ("def later():\n    from ..grade.report import page", "chapters/common.py imports grade"),
        ('import importlib\nimportlib.import_module("normcourse.grade.report")', "chapters/common.py imports grade"),
        ("from ..canvas import _keep", "chapters/common.py imports _keep of canvas"),
        ("from normcourse.canvas import _keep as keep", "chapters/common.py imports _keep of canvas"),
        ("from ..canvas import curve", None),
        ("from . import grade", None),  # a file of chapters
        ("from .lines import _thin", None),
        ("import grade", None),
        ("from normcourse import __version__", None),
    ],
)
def test_an_import_against_the_order_is_found_in_every_form(line, fault, tmp_path):
    package = tmp_path / "normcourse"
    for path in (
        "chapters/__init__.py",
        "chapters/common.py",
        "grade/__init__.py",
        "grade/report.py",
        "canvas/__init__.py",
    ):
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text("")
    (package / "chapters" / "common.py").write_text(f"{line}\n")
    assert list(faults(package)) == ([fault] if fault else [])
    (package / "new.py").write_text("")
    assert "new has no place in ORDER" in list(faults(package))


def test_no_file_of_the_package_is_longer_than_350_lines():
    files = [*(ROOT / "normcourse").rglob("*.py")]
    long = {file.name: n for file in files if (n := len(file.read_text(encoding="utf-8").splitlines())) > 350}
    assert len(files) > 60 and not long


def test_an_unknown_attribute_lists_the_modules():
    import normcourse

    assert normcourse.norms.layer_norm
    with pytest.raises(AttributeError, match="no attribute 'layernorm'; its modules are chapters, check, claims"):
        normcourse.layernorm  # noqa: B018


@pytest.mark.linux
def test_make_alone_lists_every_target():
    listing = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("lab", "test", "check", "notebooks", "lint", "bench-sliders"):
        assert re.search(rf"^{target}\s+\S", listing, re.M), f"{target} is not listed:\n{listing}"


def test_the_readme_shows_the_two_commands_and_a_picture_in_both_languages():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first_screen = "\n".join(readme.splitlines()[:40])
    assert "make lab" in first_screen and "make test" in first_screen
    pictures = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", first_screen)
    assert pictures and all((ROOT / path).is_file() and len(alt) > 10 for alt, path in pictures)
    assert re.search("[\u4e00-\u9fff]{10}", first_screen)
    for target in re.findall(r"\]\(([^)#h][^)]*)\)", readme):
        assert (ROOT / target).exists(), f"the README links to {target}, which is not there"


def test_nothing_committed_names_a_path_of_the_machine_it_was_made_on():
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in files:
        if name.endswith((".py", ".md", ".ipynb", ".toml", ".txt", ".yml", ".csv", ".sh")) and not name.startswith(
            "normcourse/data/text"
        ):
            content = (ROOT / name).read_text(encoding="utf-8")
            assert not re.search(r"/(home|root|work)/[\w.-]+/", content), name
