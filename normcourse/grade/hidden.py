"""The instructor's side of a task: hidden tests are `Task`s with points and cases drawn from a secret seed.

They stand in a folder (`solutions/`) that has a folder for each exercise, `NN_topic/`. What is there is found by
looking; a new exercise is a new folder, and nothing else lists it:

    tasks.py      the right answers and the cases: a list TASKS and, for what is marked by hand, a dict ESSAYS
                  {name: points}
    mistakes.py   what people get wrong: a dict MISTAKES {task name: its `Mistake`s}, the likelier ones first
    exercise.md   the notebook's text source, see `tools.build_exercises`
    answers.py    wrong and right answers for the course's own tests

None of it is ever handed out.
"""

import hashlib
import importlib
import math
import secrets
import sys
import types
from dataclasses import replace
from pathlib import Path

import torch

from ..check.comparison import compare
from ..check.runner import answer, right_answer


def load(folder):
    """({task name: Task}, {essay name: points}) of all exercises in a folder. Raises: as `load_each`."""
    tasks, essays = {}, {}
    for part in load_each(folder).values():
        tasks |= part[0]
        essays |= part[1]
    return tasks, essays


def load_each(folder):
    """{exercise, as "03_layer_normalisation": ({task name: Task}, {essay name: points})} of those in a folder.

    Raises: FileNotFoundError where there are none; ValueError for a task without points, a name given twice, or
    mistakes in a task that is not there.
    """
    found = tests_in(folder)
    if not found:
        raise FileNotFoundError("\n".join(NO_TESTS).format(folder))
    exercises, known = {}, set()
    for file in found:
        content, tasks = module(file), {}
        beside = file.with_name("mistakes.py")
        mistakes = dict(module(beside).MISTAKES) if beside.exists() else {}
        for task in content.TASKS:
            if task.name in known or not task.points > 0 or task.cases is None:
                raise ValueError(
                    f"{file}：题目 {task.name} 要有 cases 和大于 0 的 points，并且名称不能重复。\n"
                    f"{file}: the task {task.name} needs cases and points, and may be there only once."
                )
            known.add(task.name)
            tasks[task.name] = replace(task, mistakes=mistakes.pop(task.name, ()))
        if mistakes:
            raise ValueError(
                f"{beside}：tasks.py 里没有题目 {'、'.join(mistakes)}。\n"
                f"{beside}: tasks.py has no task {', '.join(mistakes)}."
            )
        exercises[file.parent.name] = tasks, getattr(content, "ESSAYS", {})
    return exercises


NO_TESTS = (
    "{0}：里面没有隐藏测试（NN_topic/tasks.py）；在仓库的根目录里运行，或者用 --tests 给出文件夹。",
    "{0} holds no hidden tests (NN_topic/tasks.py); run in the repository's root, or give their folder with --tests.",
)


def tests_in(folder):
    """The files of the exercises' hidden tests in a folder, in order."""
    return sorted(Path(folder).glob("[0-9]*/tasks.py"))


def module(file):
    """The module of a file in the folder of an exercise.

    All exercises of a folder are one package with a name of its own: `from .mistakes import …` finds what lies beside
    the file, `from ..shared import …` what lies beside the exercises.
    """
    exercise = Path(file).resolve().parent
    package = f"exercises_{hashlib.sha256(str(exercise.parent).encode()).hexdigest()[:12]}"
    if package not in sys.modules:
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = [str(exercise.parent)]
    importlib.invalidate_caches()  # the file may be new
    return importlib.import_module(f"{package}.{exercise.name}.{Path(file).stem}")


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
    """For nbgrader's autograder: raise AssertionError unless a solution earns all points. The folder `solutions` with
    the hidden tests is looked for upwards from the working directory."""
    here = Path.cwd()
    folder = next((p / "solutions" for p in (here, *here.parents) if tests_in(p / "solutions")), None)
    if folder is None:
        raise FileNotFoundError(
            f"{here} 和上面各级文件夹里，都没有带隐藏测试（NN_topic/tasks.py）的文件夹 solutions。\n"
            f"Neither {here} nor a folder above it has a folder solutions with hidden tests (NN_topic/tasks.py)."
        )
    task = load(folder)[0][name]
    points, found = score(task, solution, secrets.randbits(31))
    assert points == task.points, next(difference.en for difference in found if difference)
