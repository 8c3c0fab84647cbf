"""The project as a whole: imports, requirements, what the README promises."""

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


@pytest.mark.parametrize("module", ["norms", "residual", "models", "measure", "theory", "train", "data"])
def test_the_lower_modules_need_no_notebook_packages(module):
    code = f"import sys, normcourse.{module}; print(*[m.split('.')[0] for m in sys.modules])"
    new = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"matplotlib", "seaborn", "pandas", "ipywidgets", "triton", "IPython"} & set(new)


def test_imports_point_one_way():
    order = [
        "norms",
        "residual",
        "fused",
        "models",
        "theory",
        "measure",
        "train",
        "data",
        "i18n",
        "canvas",
        "plots",
        "explore",
        "record",
        "fused",
        "check",
        "grade",
    ]
    package = ROOT / "normcourse"
    for position, module in enumerate(order):
        for path in [package / f"{module}.py", *(package / module).glob("*.py")]:
            if not path.exists():
                continue
            dots = r"\." if path.parent == package else r"\.\."
            source = path.read_text(encoding="utf-8")
            for room, names in re.findall(rf"from {dots}(\w*) import [(]?([\w, ]*)", source):
                for used in [room] if room else names.split(", "):
                    assert order.index(used) < position, f"{path.name} imports {used}"


def test_an_unknown_attribute_lists_the_modules():
    import normcourse

    assert normcourse.norms.layer_norm
    with pytest.raises(AttributeError, match="no attribute 'layernorm'; its modules are check, data"):
        normcourse.layernorm  # noqa: B018


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
