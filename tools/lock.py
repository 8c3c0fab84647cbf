"""`make lock`: constraints.txt and environment.yml from pyproject.toml.

The pins come from one resolution for all platforms and Pythons at once, never from what one machine has installed.
What is pinned stays; `make lock UPGRADE=1` takes the newest releases.
"""

import re
import subprocess
import sys

from . import ROOT, pyproject

LOCK = ROOT / "constraints.txt"
HEADER = """\
# One set of pins for Linux, macOS and Windows, Python 3.11 to 3.14. Made by `make lock` from pyproject.toml, which says
# what is needed at least; a test resolves it again for each of them.
"""
# What conda-forge calls otherwise, all in one place.
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "playwright": "playwright-python"}
ENVIRONMENT = """\
# For conda users: `conda env create -f environment.yml && conda activate normcourse && python -m normcourse lab .`
# Made by `make lock` from pyproject.toml (a test compares them); `make lab` needs no conda.
name: normcourse
channels:
  - conda-forge
dependencies:
"""


def requirements(extras):
    """The requirements of the package with some extras, those that an extra takes from another one included."""
    project = pyproject()["project"]
    found, open_ = list(project["dependencies"]), list(extras)
    while open_:
        for line in project["optional-dependencies"][open_.pop(0)]:
            own = re.fullmatch(r"normcourse\[([\w,]+)\]", line)
            if own:
                open_ += own[1].split(",")
            else:
                found.append(line)
    return list(dict.fromkeys(found))


def environment():
    """environment.yml: what conda-forge has by its names there, the rest (markers, this course) for pip."""
    needed = requirements(["lab", "test"])
    plain = sorted(
        re.sub(r"^[\w-]+", lambda m: CONDA_NAMES.get(m[0], m[0]), line) for line in needed if ";" not in line
    )
    conda = [f"python{pyproject()['project']['requires-python']}", *plain, "pip"]
    pip = ["-e .", *(line for line in needed if ";" in line)]
    lines = [*(f"  - {line}" for line in conda), "  - pip:", *(f"      - {line}" for line in pip)]
    return ENVIRONMENT + "\n".join(lines) + "\n"


def main():
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--all-extras", "--universal"]
    command += ["--python-version", "3.11", "--no-annotate", "--no-header", "--strip-extras", "-o", str(LOCK)]
    subprocess.run([*command, *sys.argv[1:]], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    LOCK.write_text(HEADER + LOCK.read_text(encoding="utf-8"), encoding="utf-8")
    (ROOT / "environment.yml").write_text(environment(), encoding="utf-8")


if __name__ == "__main__":
    main()
