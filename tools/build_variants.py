"""`make variants IDS=ids.csv OUT=folder`: OUT/id/NN_topic/NN_topic.ipynb for each learner of the list and each exercise
in which something varies: the released notebook, which says in both languages and in its metadata what is this
learner's own, and whose `check` expects it. Run `make exercises` first where tasks have changed.

Arguments: the list (see `normcourse.grade.variants.read_learners`), the folder, and names to build, e.g. `03`; all by
default. These notebooks are graded by `python -m normcourse grade --variants`; nbgrader knows one variant only.
"""

import copy
import math
import re
import shutil
import sys
from pathlib import Path

import nbformat
from nbgrader.utils import compute_checksum

from normcourse.grade.hidden import load_each
from normcourse.grade.variants import constants_of, read_learners, usual, written

from .build_exercises import EXERCISES, SOLUTIONS

TOP = (
    "这份 notebook 是 `{0}` 的：有些常数每个人不同，下面写着你的。"
    "评分程序按号码知道它们；下面第一个单元格里的 `variant` 让 `check` 也知道，不要改。",
    "This notebook is for `{0}`: some constants are each learner's own, and yours are stated below. The grader knows them "
    "by your id; `variant` in the cell right below tells `check`, so leave it as it is.",
)
OWN = (
    "**你的常数：** 不给 `{0}` 时，取 `{0} = {1}`，不取常见的 {2}。",
    "**Your constant:** where `{0}` is not given, it is `{0} = {1}`, and not the usual {2}.",
)


def variant(notebook, tasks, learner):
    """The notebook of an exercise for a learner's id. tasks: {name: Task} of the exercise. The notebook given stays as
    it is."""
    made, cells = copy.deepcopy(notebook), {}
    varying = {name: constants_of(task, learner) for name, task in tasks.items() if task.varies}
    for text, cell in zip(made.cells, made.cells[1:]):
        if marked := re.match(r"# EXERCISE: (\w+)", cell.source):
            cells[marked[1]] = text, cell
    for name, constants in varying.items():
        text, cell = cells[name]
        for constant, default in usual(tasks[name]).items():
            _state(text, cell, constant, default, constants[constant])
        cell.metadata.nbgrader.checksum = compute_checksum(cell)
    calls = [f'variant("{name}", {written(own).replace(" = ", "=")})' for name, own in varying.items()]
    first = next(cell for cell in made.cells if "from normcourse.check import" in cell.source)
    source, imported = re.subn(r"(from normcourse\.check import .*)", r"\1, variant", first.source)
    source, called = re.subn(r"^language_switch\(\)$", "\n".join([*calls, r"\g<0>"]), source, flags=re.M)
    if (imported, called) != (1, 1):
        raise ValueError(f"check and language_switch() are not in one cell: {first.source}")
    first.source = source
    _say(next(cell for cell in made.cells if cell.cell_type == "markdown"), *(words.format(learner) for words in TOP))
    made.metadata.normcourse = {"learner": learner, "constants": varying}
    return made


def _state(text, cell, constant, default, value):
    """Write a learner's constant into the text and the code of a task."""
    found = re.search(rf"\b{constant}=([\d.e-]+)", cell.source)
    if not found or float(found[1]) != default:
        raise ValueError(f"{cell.source.splitlines()[0]}: {constant}={default:g} is not there")
    cell.source = cell.source[: found.start(1)] + f"{value:g}" + cell.source[found.end(1) :]
    exponent = round(math.log10(default))
    text.source = text.source.replace(rf"\varepsilon = 10^{{{exponent}}}", rf"\varepsilon = {value:g}")
    _say(text, *(words.format(constant, f"{value:g}", found[1]) for words in OWN))


def _say(cell, zh, en):
    """Add a paragraph to the last Chinese and the last English of a text cell."""
    end = "\n\n</div>"
    if cell.source.count(end) < 2:
        raise ValueError(f"{cell.source[:80]}: no part in Chinese and one in English")
    first, second, rest = cell.source.rsplit(end, 2)
    cell.source = f"{first}\n\n{zh}{end}{second}\n\n{en}{end}{rest}"


def build(listed, out, names=()):
    """Write the notebooks of the learners of a list into a folder. Returns how many. Raises: ValueError for a list,
    a folder or names that cannot be used."""
    learners = list(dict.fromkeys(read_learners(listed).values()))
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} 是文件，要一个文件夹。\n{out} is a file; a folder is needed.")
    count = 0
    for exercise, (tasks, _) in load_each(SOLUTIONS).items():
        chosen = not names or any(exercise.startswith(name) for name in names)
        if not chosen or not any(task.varies for task in tasks.values()):
            continue
        released = nbformat.read(EXERCISES / exercise / f"{exercise}.ipynb", as_version=4)
        for learner in learners:
            folder = out / learner / exercise
            shutil.copytree(EXERCISES / exercise, folder, dirs_exist_ok=True)
            nbformat.write(variant(released, tasks, learner), folder / f"{exercise}.ipynb")
            count += 1
    if not count:
        raise ValueError(
            f"{' '.join(names)}：没有这样的练习，或者里面没有变的。\n{' '.join(names)}: nothing varies there."
        )
    return count


def main(arguments=None):
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) < 2:
        raise SystemExit("python -m tools.build_variants 名单 文件夹 [03 …] · … LIST FOLDER [03 …]")
    try:
        count = build(Path(given[0]), Path(given[1]), given[2:])
    except ValueError as error:
        raise SystemExit(str(error)) from None
    print(f"{given[1]}: {count} 份 notebook · {count} notebooks")


if __name__ == "__main__":
    main()
