"""The instructor's side of a task: hidden tests are `Task`s with points and cases drawn from a secret seed.

They stand in a folder (`solutions/hidden/`): for each exercise a file `NN_topic.py` with a list TASKS and, for what is
marked by hand, a dict ESSAYS {name: points}. What a task is (right answer, visible cases, mistakes) may stand in
another file of the folder. Nothing here is a test; the folder is never handed out.
"""

import contextlib
import math
import runpy
import secrets
import sys
from pathlib import Path

import torch

from ..check.comparison import compare
from ..check.runner import answer, right_answer


def load(folder):
    """({task name: Task}, {essay name: points}) of all files in a folder. Raises: as `load_each`."""
    tasks, essays = {}, {}
    for part in load_each(folder).values():
        tasks |= part[0]
        essays |= part[1]
    return tasks, essays


def load_each(folder):
    """{exercise, as "03_layer_normalisation": ({task name: Task}, {essay name: points})} of the files in a folder.

    Raises: FileNotFoundError where there are none, ValueError for a task without points or a name given twice.
    """
    files = sorted(Path(folder).glob("[0-9]*.py"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no hidden tests (NN_topic.py); give the folder with --tests")
    exercises, known = {}, set()
    for file in files:
        with _importable(file.parent):
            content = runpy.run_path(str(file))
        for task in content["TASKS"]:
            if task.name in known or not task.points > 0 or task.cases is None:
                raise ValueError(
                    f"{file.name}: the task {task.name} needs cases and points, and may be there only once"
                )
            known.add(task.name)
        exercises[file.stem] = {task.name: task for task in content["TASKS"]}, content.get("ESSAYS", {})
    return exercises


@contextlib.contextmanager
def _importable(folder):
    """Inside, files of a folder can be imported by their names; afterwards they are forgotten."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if getattr(sys.modules[name], "__file__", None) == str(folder / f"{name}.py"):
                del sys.modules[name]


def earned(task, passed):
    """Points for a list of which cases passed: in proportion, but none without the first, the plain definition."""
    if not passed or not passed[0]:
        return 0.0
    return math.floor(100 * task.points * sum(passed) / len(passed)) / 100


def score(task, solution, seed):
    """Points of a solution, and for each case of this seed None or the `Difference`. It runs in this very process:
    for the course's own tests and trusted notebooks; the judge runs learners' code in a sandbox."""
    cases = list(task.cases(torch.Generator().manual_seed(seed)))
    found = [compare(answer(solution, case, task), right_answer(task, case), case) for case in cases]
    return earned(task, [difference is None for difference in found]), found


def assert_right(name, solution):
    """For nbgrader's autograder: raise AssertionError unless a solution earns all points. The folder `solutions/hidden`
    is looked for upwards from the working directory."""
    here = Path.cwd()
    folder = next(
        (p / "solutions" / "hidden" for p in (here, *here.parents) if (p / "solutions" / "hidden").is_dir()), None
    )
    if folder is None:
        raise FileNotFoundError(f"no folder solutions/hidden above {here}")
    task = load(folder)[0][name]
    points, found = score(task, solution, secrets.randbits(31))
    assert points == task.points, next(difference.en for difference in found if difference)
